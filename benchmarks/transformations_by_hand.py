"""The request of ``benchmarks/transformations.py`` as it would be written by hand in DuckDB, Polars, pandas and Spark.

Each contender reads ``sales.parquet`` and ``items.parquet`` of a folder, looks each sale up in the items (the first row of a key, whatever
its case), computes 42 columns, running totals, ranks, lags and numbers, filters, sorts, and writes ``out.parquet``; then it sums a column
by region and channel into ``pivot.csv``. Decimals stay decimals, and rows keep their order. Where a library has no exact operation for a
column, the contender takes what the library has; the benchmark counts the cells that differ.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

TODAY = "2026-11-30"
MEMORY = os.environ.get("BENCHMARK_MEMORY", "2GB")

COMPUTED = {
    "net": "=[@amount]*[@qty]",
    "gross": "=ROUND([@amount]*1.19, 2)",
    "diff": "=[@amount]-[@cost]",
    "total": "=[@amount]+[@cost]",
    "share": "=[@amount]/[@qty]",
    "unit": "=IFERROR([@share], 0)",
    "apart": "=ABS([@diff])",
    "up": "=ROUNDUP([@cost], 2)",
    "down": "=ROUNDDOWN([@cost], 2)",
    "rounded": "=ROUND([@cost], 2)",
    "whole": "=INT([@amount])",
    "rest": "=MOD([@id], 7)",
    "square": "=[@qty]^2",
    "minus": "=-[@amount]",
    "percent": "=[@amount]%",
    "least": "=MIN([@amount], [@cost])",
    "most": "=MAX([@amount], [@cost])",
    "late": '=IF([@due]<TODAY(), "late", "open")',
    "band": '=IFS([@amount]<100, "small", [@amount]<1000, "medium", TRUE, "large")',
    "both": "=AND([@amount]>100, [@qty]>2)",
    "either": "=OR([@amount]>5000, [@qty]=1)",
    "neither": "=NOT([@either])",
    "no_note": "=ISBLANK([@note])",
    "wrong": "=ISERROR([@share])",
    "paid": "=IFNA([@price], 0)",
    "margin": "=[@amount]-[@paid]*[@qty]",
    "place": '=[@region]&"-"&[@channel]',
    "label": '=CONCAT([@item], "/", [@qty])',
    "kind": "=LEFT([@ref], 3)",
    "land": "=RIGHT([@ref], 2)",
    "digits": "=MID([@ref], 5, 6)",
    "number": "=VALUE([@digits])",
    "upper": "=UPPER([@item])",
    "lower": "=LOWER([@item])",
    "length": "=LEN([@note])",
    "neat": "=TRIM([@note])",
    "swapped": '=SUBSTITUTE([@ref], "-", "/")',
    "year": "=YEAR([@due])",
    "month": "=MONTH([@due])",
    "day": "=DAY([@due])",
    "first": "=DATE([@year], [@month], 1)",
    "days": "=TODAY()-[@due]",
}
TYPES = {
    "sales": {"id": "integer", "amount": "decimal(18,2)", "cost": "decimal(18,4)", "qty": "integer", "due": "date"},
    "items": {"price": "decimal(10,2)"},
}
REQUEST = {
    "version": "v1",
    "as_of": TODAY,
    "memory_limit": MEMORY,
    "inputs": {name: {"path": f"{name}.parquet", "types": types} for name, types in TYPES.items()},
    "operations": [
        {"vlookup": {"table": "sales", "in": "items", "key": "item", "take": ["name", "price", "family"]}},
        *({"compute": {"table": "sales", "set": {name: formula}}} for name, formula in COMPUTED.items()),
        {"running_total": {"table": "sales", "to": "so_far", "of": "amount", "by": "region"}},
        {"rank": {"table": "sales", "to": "rank", "of": "amount", "by": "region"}},
        {"lag": {"table": "sales", "to": "before", "of": "amount", "by": "region"}},
        {"number_rows": {"table": "sales", "to": "row", "by": "channel"}},
        {"filter": {"table": "sales", "where": "=NOT([@wrong])"}},
        {"sort": {"table": "sales", "by": ["region", {"column": "amount", "descending": True}]}},
        {"pivot": {"table": "sales", "as": "pivot", "rows": "region", "columns": "channel", "values": {"gross": {"sum": "gross"}}}},
    ],
    "outputs": [{"table": "sales", "path": "out.parquet"}, {"table": "pivot", "path": "pivot.csv"}],
}
"""50 operations: the look-up, 42 columns, four windows, filter, sort and pivot."""
assert len(REQUEST["operations"]) == 50
NAMED = "id, item, region, channel, amount, cost, qty, due, note, ref, name, price, family"
CHANNELS = ("Phone", "Shop", "Web")


def recon(folder: Path, engine: str = "duckdb") -> None:
    """``recon transform``, from Python."""
    import json

    from recon.transformations.run import carry_out, read_request

    (folder / "request.json").write_text(json.dumps(REQUEST))
    carry_out(read_request(folder / "request.json"))


_QUOTIENT = "((abs(CAST(amount * 100 AS HUGEINT)) * 100000000 + abs(qty) // 2) // nullif(abs(qty), 0))"
_DUCKDB = [
    """CREATE TEMP TABLE found AS SELECT lower(item) AS k, arg_min({'name': name, 'price': price, 'family': family}, n) AS f
    FROM (SELECT *, file_row_number AS n FROM read_parquet('{folder}/items.parquet', file_row_number = true))
    WHERE item IS NOT NULL GROUP BY 1""",
    """CREATE TEMP VIEW looked AS SELECT s.*, f.name AS name, f.price AS price, f.family AS family
    FROM (SELECT * RENAME (file_row_number AS n) FROM read_parquet('{folder}/sales.parquet', file_row_number = true)) s
    LEFT JOIN found ON lower(s.item) = found.k""",
    f"""CREATE TEMP VIEW one AS SELECT *, amount * qty AS net, round(amount * 1.19, 2) AS gross, amount - cost AS diff,
    amount + cost AS total, CAST(CASE WHEN (amount < 0) <> (qty < 0) THEN -{_QUOTIENT} ELSE {_QUOTIENT} END AS DECIMAL(38,0))
    * 0.0000000001::DECIMAL(10,10) AS share,
    CAST(CASE WHEN cost = trunc(cost, 2) THEN trunc(cost, 2) ELSE trunc(cost, 2) + sign(cost) * 0.01 END AS DECIMAL(18,2)) AS up,
    CAST(trunc(cost, 2) AS DECIMAL(18,2)) AS down, round(cost, 2) AS rounded, floor(amount) AS whole, id % 7 AS rest, qty * qty AS square,
    -amount AS minus, amount * 0.01 AS percent, least(amount, cost) AS least, greatest(amount, cost) AS most,
    CASE WHEN due < DATE '{TODAY}' THEN 'late' ELSE 'open' END AS late,
    CASE WHEN amount < 100 THEN 'small' WHEN amount < 1000 THEN 'medium' ELSE 'large' END AS band,
    amount > 100 AND qty > 2 AS "both", amount > 5000 OR qty = 1 AS either, note IS NULL AS no_note, coalesce(price, 0) AS paid,
    region || '-' || channel AS place, coalesce(item, '') || '/' || qty AS label, left(ref, 3) AS kind, right(ref, 2) AS land,
    substr(ref, 5, 6) AS digits, upper(coalesce(item, '')) AS upper, lower(coalesce(item, '')) AS lower,
    coalesce(length(note), 0) AS length,
    coalesce(regexp_replace(trim(note), ' +', ' ', 'g'), '') AS neat, replace(ref, '-', '/') AS swapped,
    year(due) AS year, month(due) AS month, day(due) AS day, date_diff('day', due, DATE '{TODAY}') AS days FROM looked""",
    """CREATE TEMP VIEW two AS SELECT *, coalesce(share, 0) AS unit, abs(diff) AS apart, NOT either AS neither, share IS NULL AS wrong,
    amount - paid * qty AS margin, CAST(digits AS DECIMAL(38,10)) AS number, make_date(year, month, 1) AS first,
    sum(amount) OVER (PARTITION BY region ORDER BY n) AS so_far, rank() OVER (PARTITION BY region ORDER BY amount DESC) AS rank,
    lag(amount) OVER (PARTITION BY region ORDER BY n) AS before, row_number() OVER (PARTITION BY channel ORDER BY n) AS row FROM one""",
    "CREATE TEMP TABLE kept AS SELECT * FROM two WHERE NOT wrong",
    "SET preserve_insertion_order = true",
    """COPY (SELECT {columns} FROM kept ORDER BY lower(region), amount DESC, n) TO '{folder}/out.parquet' (COMPRESSION zstd)""",
    f"""COPY (SELECT region, {", ".join(f"coalesce(sum(gross) FILTER (channel = '{c}'), 0) AS {c}" for c in CHANNELS)}
    FROM kept GROUP BY region ORDER BY lower(region)) TO '{{folder}}/pivot.csv' (HEADER)""",
]
COLUMNS = [*NAMED.split(", "), *COMPUTED, "so_far", "rank", "before", "row"]
_LISTED = ", ".join(f'"{name}"' for name in COLUMNS)


def duckdb(folder: Path) -> None:
    """SQL, spilling beyond the memory limit."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = '{folder}/spilled'; SET preserve_insertion_order = false")
        for statement in _DUCKDB:
            connection.execute(statement.replace("{folder}", str(folder)).replace("{columns}", _LISTED))


def polars(folder: Path) -> None:
    """The lazy engine, streaming. Its quotients round halves to even."""
    import polars as pl
    from polars import col, lit

    today, nothing = pl.lit(TODAY).str.to_date(), pl.lit("0").cast(pl.Decimal(10, 2))
    items = pl.scan_parquet(folder / "items.parquet").with_columns(k=col("item").str.to_lowercase()).drop("item")
    items = items.filter(col("k").is_not_null()).unique("k", keep="first", maintain_order=True)
    sales = pl.scan_parquet(folder / "sales.parquet").with_row_index("n").with_columns(k=col("item").str.to_lowercase())
    looked = sales.join(items, on="k", how="left", maintain_order="left").drop("k")
    amount, cost, qty = col("amount"), col("cost"), col("qty")
    number = qty.cast(pl.Decimal(19, 0))
    cent, exact = pl.lit("0.01").cast(pl.Decimal(3, 2)), cost.cast(pl.Decimal(38, 4))
    down = exact.truncate(2)
    one = looked.with_columns(
        net=amount * number,
        gross=(amount.cast(pl.Decimal(38, 4)) * pl.lit("1.19").cast(pl.Decimal(3, 2))).round(2, mode="half_away_from_zero"),
        diff=amount.cast(pl.Decimal(38, 4)) - cost,
        total=amount.cast(pl.Decimal(38, 4)) + cost,
        share=pl.when(qty != 0).then(amount.cast(pl.Decimal(38, 10)) / pl.when(qty != 0).then(number).otherwise(lit(1))),
        down=down,
        up=pl.when(down == exact).then(down).otherwise(down + cent * exact.sign()),
        rounded=exact.round(2, mode="half_away_from_zero"),
        whole=amount.floor(),
        rest=col("id") % 7,
        square=qty * qty,
        minus=-amount,
        percent=amount.cast(pl.Decimal(38, 4)) * cent,
        least=pl.min_horizontal(amount.cast(pl.Decimal(38, 4)), exact),
        most=pl.max_horizontal(amount.cast(pl.Decimal(38, 4)), exact),
        late=pl.when(col("due") < today).then(lit("late")).otherwise(lit("open")),
        band=pl.when(amount < 100).then(lit("small")).when(amount < 1000).then(lit("medium")).otherwise(lit("large")),
        both=(amount > 100) & (qty > 2),
        either=(amount > 5000) | (qty == 1),
        no_note=col("note").is_null(),
        paid=pl.coalesce(col("price"), nothing),
        place=pl.concat_str("region", lit("-"), "channel"),
        label=pl.concat_str(col("item").fill_null(""), lit("/"), qty.cast(pl.String)),
        kind=col("ref").str.head(3),
        land=col("ref").str.tail(2),
        digits=col("ref").str.slice(4, 6),
        upper=col("item").fill_null("").str.to_uppercase(),
        lower=col("item").fill_null("").str.to_lowercase(),
        length=col("note").str.len_chars().fill_null(0),
        neat=col("note").str.strip_chars(" ").str.replace_all(" +", " ").fill_null(""),
        swapped=col("ref").str.replace_all("-", "/", literal=True),
        year=col("due").dt.year(),
        month=col("due").dt.month(),
        day=col("due").dt.day(),
        days=(today - col("due")).dt.total_days(),
    )
    two = one.with_columns(
        unit=col("share").fill_null(lit("0").cast(pl.Decimal(38, 10))),
        apart=col("diff").abs(),
        neither=~col("either"),
        wrong=col("share").is_null(),
        margin=amount - col("paid") * number,
        number=col("digits").cast(pl.Decimal(38, 10)),
        first=pl.date(col("year"), col("month"), 1),
        so_far=amount.cum_sum().over("region"),
        rank=amount.rank("min", descending=True).over("region"),
        before=amount.shift(1).over("region"),
        row=pl.int_range(pl.len()).over("channel") + 1,
    )
    kept = two.filter(~col("wrong")).collect(engine="streaming")
    ordered = kept.lazy().sort(col("region").str.to_lowercase(), amount, "n", descending=[False, True, False])
    ordered.select(COLUMNS).sink_parquet(folder / "out.parquet", compression="zstd")
    sums = [col("gross").filter(col("channel") == channel).sum().alias(channel) for channel in CHANNELS]
    kept.lazy().group_by("region").agg(sums).sort(col("region").str.to_lowercase()).collect().write_csv(folder / "pivot.csv")


def pandas(folder: Path) -> None:
    """Arrow's decimals behind pandas; what Arrow's decimals cannot do is done on NumPy's doubles, as is usual there."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pd.ArrowDtype(pa.string())

    def exact(column: pd.Series, digits: int, scale: int) -> pd.Series:
        return column.astype(pd.ArrowDtype(pa.decimal128(digits, scale)))

    def arrow(function: Callable[..., pa.Array], *columns: pd.Series, **options: object) -> pd.Series:
        made = function(*(pa.chunked_array(pa.array(column, from_pandas=True)) for column in columns), **options)
        return pd.Series(pd.arrays.ArrowExtensionArray(made), index=columns[0].index)

    sales, items = (pd.read_parquet(folder / f"{name}.parquet", dtype_backend="pyarrow") for name in ("sales", "items"))
    sales["k"], items["k"] = sales["item"].str.lower(), items["item"].str.lower()
    first = items.dropna(subset="k").drop_duplicates("k").drop(columns="item")
    t = sales.merge(first, on="k", how="left").drop(columns="k")
    amount, cost, qty, due = t["amount"], t["cost"], t["qty"], t["due"]
    number, wide, today = exact(qty, 19, 0), exact(amount, 20, 4), pd.Timestamp(TODAY).date()
    t["net"] = exact(amount, 18, 2) * number
    t["gross"] = arrow(
        pc.round,
        exact(amount, 18, 2) * exact(pd.Series("1.19", t.index, text), 3, 2),
        ndigits=2,
        round_mode="half_towards_infinity",
    )
    t["diff"], t["total"] = wide - cost, wide + cost
    quotients = amount.astype("float64").to_numpy() / np.where(qty == 0, np.nan, qty.astype("float64"))
    t["share"] = pd.Series(np.round(quotients, 10), t.index)
    t["unit"] = t["share"].fillna(0)
    t["apart"] = arrow(pc.abs, t["diff"])
    for name, how in {"up": "towards_infinity", "down": "towards_zero", "rounded": "half_towards_infinity"}.items():
        t[name] = arrow(pc.round, cost, ndigits=2, round_mode=how)
    t["whole"], t["rest"], t["square"], t["minus"] = (
        arrow(pc.floor, amount),
        t["id"].astype("int64") % 7,
        qty * qty,
        arrow(pc.negate, amount),
    )
    t["percent"] = exact(amount, 18, 2) * exact(pd.Series("0.01", t.index, text), 3, 2)
    t["least"], t["most"] = arrow(pc.min_element_wise, wide, exact(cost, 20, 4)), arrow(pc.max_element_wise, wide, exact(cost, 20, 4))
    t["late"] = np.where(due < today, "late", "open")
    t["band"] = np.select([amount < 100, amount < 1000], ["small", "medium"], "large")
    t["both"], t["either"] = (amount > 100) & (qty > 2), (amount > 5000) | (qty == 1)
    t["neither"], t["no_note"], t["wrong"] = ~t["either"], t["note"].isna(), t["share"].isna()
    t["paid"] = exact(t["price"], 10, 2).fillna(exact(pd.Series(["0"], dtype=text), 10, 2)[0])
    t["margin"] = exact(amount, 18, 2) - t["paid"] * number
    t["place"], t["label"] = t["region"] + "-" + t["channel"], t["item"].fillna("") + "/" + qty.astype(text)
    ref, note = t["ref"].str, t["note"].str
    t["kind"], t["land"], t["digits"] = ref[:3], ref[-2:], ref[4:10]
    t["number"] = exact(t["digits"], 38, 10)
    t["upper"], t["lower"], t["length"] = t["item"].fillna("").str.upper(), t["item"].fillna("").str.lower(), note.len().fillna(0)
    t["neat"], t["swapped"] = note.strip(" ").str.replace(" +", " ", regex=True).fillna(""), ref.replace("-", "/", regex=False)
    day = pd.to_datetime(due)
    t["year"], t["month"], t["day"] = day.dt.year, day.dt.month, day.dt.day
    t["first"], t["days"] = day.dt.to_period("M").dt.start_time.dt.date, (pd.Timestamp(TODAY) - day).dt.days
    t["cents"] = (amount.astype("float64") * 100).round().astype("int64")  # no running totals and ranks of decimals there
    region = t.groupby("region", sort=False)
    t["so_far"] = exact(region["cents"].cumsum().astype(pd.ArrowDtype(pa.int64())), 19, 0) * exact(pd.Series("0.01", t.index, text), 3, 2)
    t["rank"], t["before"] = region["cents"].rank("min", ascending=False), region["amount"].shift(1)
    t["row"] = t.groupby("channel", sort=False).cumcount() + 1
    t = t[~t["wrong"]]
    t = t.assign(key=t["region"].str.lower()).sort_values(["key", "amount"], ascending=[True, False], kind="stable")
    t[COLUMNS].to_parquet(folder / "out.parquet", compression="zstd", index=False)
    t.pivot_table(index="region", columns="channel", values="gross", aggfunc="sum").to_csv(folder / "pivot.csv")


def spark(folder: Path) -> None:
    """Spark SQL on all cores of this machine, with the memory limit as its heap."""
    from pyspark.sql import SparkSession

    from recon.engines.spark.session import prepare

    prepare()
    builder = SparkSession.builder.master("local[*]").config("spark.driver.memory", "2g").config("spark.ui.enabled", "false")
    for name, value in {"spark.sql.decimalOperations.allowPrecisionLoss": "false", "spark.local.dir": str(folder / "spilled")}.items():
        builder = builder.config(name, value)
    session = builder.config("spark.driver.host", "127.0.0.1").config("spark.sql.shuffle.partitions", "16").getOrCreate()
    for name in ("sales", "items"):
        read = session.read.parquet(str(folder / f"{name}.parquet"))
        read.selectExpr("*", "monotonically_increasing_id() AS n").createOrReplaceTempView(name)
    for name, statement in _SPARK.items():
        session.sql(statement).createOrReplaceTempView(name)
    session.table("two").where("NOT wrong").write.parquet(str(folder / "kept"), mode="overwrite")
    kept = session.read.parquet(str(folder / "kept"))
    ordered = kept.selectExpr("*", "lower(region) AS k").orderBy("k", kept.amount.desc(), "n")
    ordered.select(COLUMNS).write.parquet(str(folder / "out"), mode="overwrite", compression="zstd")
    kept.groupBy("region").pivot("channel", list(CHANNELS)).sum("gross").orderBy("region").toPandas().to_csv(
        folder / "pivot.csv", index=False
    )
    session.stop()


_SPARK = {
    "found": "SELECT lower(item) AS k, min_by(struct(name, price, family), n) AS f FROM items WHERE item IS NOT NULL GROUP BY 1",
    "looked": "SELECT s.*, f.name, f.price, f.family FROM sales s LEFT JOIN found ON lower(s.item) = found.k",
    "one": f"""SELECT *, amount * qty AS net, round(amount * 1.19, 2) AS gross, amount - cost AS diff, amount + cost AS total,
    CAST(try_divide(amount, CAST(qty AS DECIMAL(10,0))) AS DECIMAL(38,10)) AS share,
    CASE WHEN cost < 0 THEN floor(cost, 2) ELSE ceil(cost, 2) END AS up,
    CASE WHEN cost < 0 THEN ceil(cost, 2) ELSE floor(cost, 2) END AS down,
    round(cost, 2) AS rounded, floor(amount) AS whole, id % 7 AS rest, qty * qty AS square, -amount AS minus, amount * 0.01 AS percent,
    least(amount, cost) AS least, greatest(amount, cost) AS most, CASE WHEN due < DATE '{TODAY}' THEN 'late' ELSE 'open' END AS late,
    CASE WHEN amount < 100 THEN 'small' WHEN amount < 1000 THEN 'medium' ELSE 'large' END AS band,
    amount > 100 AND qty > 2 AS both, amount > 5000 OR qty = 1 AS either, note IS NULL AS no_note, coalesce(price, 0) AS paid,
    concat(region, '-', channel) AS place, concat(coalesce(item, ''), '/', qty) AS label, left(ref, 3) AS kind, right(ref, 2) AS land,
    substr(ref, 5, 6) AS digits, upper(coalesce(item, '')) AS upper, lower(coalesce(item, '')) AS lower,
    coalesce(length(note), 0) AS length,
    coalesce(regexp_replace(trim(note), ' +', ' '), '') AS neat, replace(ref, '-', '/') AS swapped,
    year(due) AS year, month(due) AS month, day(due) AS day, datediff(DATE '{TODAY}', due) AS days FROM looked""",
    "two": """SELECT *, coalesce(share, 0) AS unit, abs(diff) AS apart, NOT either AS neither, share IS NULL AS wrong,
    amount - paid * qty AS margin, CAST(digits AS DECIMAL(38,10)) AS number, make_date(year, month, 1) AS first,
    sum(amount) OVER (PARTITION BY region ORDER BY n ROWS UNBOUNDED PRECEDING) AS so_far,
    rank() OVER (PARTITION BY region ORDER BY amount DESC) AS rank, lag(amount) OVER (PARTITION BY region ORDER BY n) AS before,
    row_number() OVER (PARTITION BY channel ORDER BY n) AS row FROM one""",
}
CONTENDERS: dict[str, Callable[[Path], None]] = {"recon": recon, "duckdb": duckdb, "polars": polars, "pandas": pandas, "spark": spark}
"""By name; each but recon is by hand."""
