"""python -m benchmarks.peers.report [docs/benchmarks/peers.json]: the tables and charts of docs/benchmarks.md from what was measured."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.objects import share
from benchmarks.peers.peer import RAW, SAME
from benchmarks.peers.step import OURS, PEERS

_OURS = f"{OURS} / {SAME}"


def per_batch(contender: str, of: dict[str, Any], figure: str) -> float:
    """Mean of a figure over the batches, with maintenance by its share. Recon's compaction is charged by what each batch superseded."""
    batches = of["batches"]
    scale = share(of["state"]) if contender.startswith(PEERS[-1]) else 1
    stages = [sum(s[figure] for name, s in batch["stages"].items() if name not in ("compaction", "find")) for batch in batches]
    maintenance = sum(stage[figure] for name, stage in of["maintenance"].items() if name != "sweep") / len(batches)
    return scale * statistics.mean(stages) + maintenance + compaction(of, figure)


def compaction(of: dict[str, Any], figure: str) -> float:
    """What a batch owes: its superseded bytes at the price that this size's compactions had per byte that they freed."""
    price = of.get("compaction price", {}).get(figure, 0.0)
    return float(price * statistics.mean([batch.get("superseded", 0) for batch in of["batches"]]))


def price_compaction(size: dict[str, Any]) -> None:
    """Per freed byte: what all compactions of this size's run cost, those in the worn windows (the state's making) too."""
    of = size["contenders"][_OURS]
    ran = [batch for batch in size["worn"] + of["batches"] if "compaction" in batch["stages"]]
    freed = sum(batch["freed"] for batch in ran)
    of["compactions"] = len(ran)
    if freed:
        of["compaction price"] = {
            figure: sum(batch["stages"]["compaction"][figure] for batch in ran) / freed for figure in ("cpu_s", "wall_s", "mb_written")
        }


def table(held: dict[str, Any], league: str) -> list[str]:
    sizes = list(held["sizes"])
    rows = [_OURS] + [f"{peer} / {league}" for peer in PEERS]
    heads = ["CPU s a batch", "wall s", "MB written", "peak GB", "disk MB", "look-up p50, ms", "p99, ms"]
    lines = []
    for size in sizes:
        of_size = held["sizes"][size]["contenders"]
        lines += [f"**{size} million artifacts**", "", "| | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
        for row in rows:
            if row not in of_size:
                continue
            of = of_size[row]
            warm = of["look-ups"]["warm"]
            peak = max(batch["memory"]["anonymous_gb"] for batch in of["batches"])
            figures = [per_batch(row, of, "cpu_s"), per_batch(row, of, "wall_s"), per_batch(row, of, "mb_written")]
            disk = of["disk"]["disk_mb"]
            sampled = row.startswith(PEERS[-1])
            cells = [f"{figures[0]:.1f}", f"{figures[1]:.1f}", f"{figures[2]:,.0f}", f"{peak:.1f}", "–" if sampled else f"{disk:,.0f}"]
            cells += [f"{warm['p50_ms']:.2f}", f"{warm['p99_ms']:.1f}"]
            lines.append(f"| {row.split(' / ')[0]} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def stages(held: dict[str, Any]) -> list[str]:
    names = ["pre-fetch", "merge", "index"]
    lines = [
        "| CPU s / wall s a batch | " + " | ".join([*names, "compaction, by its share", "all"]) + " |",
        "| --- " * (len(names) + 3) + "|",
    ]
    for size, run in held["sizes"].items():
        of = run["contenders"][_OURS]
        cells = []
        for name in names:
            pair = [statistics.mean([b["stages"].get(name, {}).get(f, 0.0) for b in of["batches"]]) for f in ("cpu_s", "wall_s")]
            cells.append(f"{pair[0]:.2f} / {pair[1]:.2f}")
        cells.append(f"{compaction(of, 'cpu_s'):.2f} / {compaction(of, 'wall_s'):.2f}")
        cells.append(f"{per_batch(_OURS, of, 'cpu_s'):.2f} / {per_batch(_OURS, of, 'wall_s'):.2f}")
        lines.append(f"| {size} million | " + " | ".join(cells) + " |")
    return lines


def _of_sizes(held: dict[str, Any], sizes: list[str], name: str) -> list[tuple[float, float]]:
    runs = {size: held["sizes"][size]["contenders"] for size in sizes}
    return [(float(size), per_batch(name, of[name], "cpu_s")) for size, of in runs.items() if name in of]


def _of_batches(size: dict[str, Any], name: str) -> list[tuple[float, float]]:
    batches = size["contenders"].get(name, {"batches": []})["batches"]
    skipped = ("compaction", "find")
    return [(n, sum(s["cpu_s"] for stage, s in b["stages"].items() if stage not in skipped)) for n, b in enumerate(batches, 1)]


def charts(held: dict[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = dict(zip([OURS, *PEERS], ["#c0392b", "#7f8c8d", "#2c3e50", "#2980b9", "#27ae60", "#8e44ad", "#d35400"], strict=True))
    sizes = sorted(held["sizes"], key=float)
    for league, title in ((SAME, "the same job"), (RAW, "totals only; recon does its whole job")):
        figure, axes = plt.subplots(figsize=(7.5, 4.2))
        for peer in [OURS, *PEERS[:-1]]:
            name = _OURS if peer == OURS else f"{peer} / {league}"
            points = _of_batches(held["sizes"][sizes[0]], name) if len(sizes) == 1 else _of_sizes(held, sizes, name)
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=colours[peer], label=peer, linewidth=3 if peer == OURS else 1.5)
        axes.set(ylabel="CPU seconds a batch", ylim=(0, None))
        if len(sizes) == 1:
            axes.set(xlabel=f"batch; {sizes[0]} million artifacts to begin with; without compaction and maintenance")
        else:
            axes.set(xscale="log", xlabel="million artifacts in the state")
            axes.set_xticks([float(s) for s in sizes], sizes)
            axes.minorticks_off()
        axes.set_title(f"2 M events into the state: {title}", loc="left")
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"peers-{league}.png", dpi=130)
    figure, axes = plt.subplots(figsize=(7.5, 3.8))
    size = sizes[-1]
    names = [_OURS] + [f"{peer} / {SAME}" for peer in PEERS[:-1] if f"{peer} / {SAME}" in held["sizes"][size]["contenders"]]
    for place, name in enumerate(reversed(names)):
        warm = held["sizes"][size]["contenders"][name]["look-ups"]["warm"]
        axes.plot([warm["p50_ms"], warm["p99_ms"]], [place, place], color=colours[name.split(" / ")[0]], linewidth=3)
        axes.plot([warm["p50_ms"]], [place], "o", color=colours[name.split(" / ")[0]], markersize=9)
    axes.axvline(10, color="#999", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(names)), [name.split(" / ")[0] for name in reversed(names)])
    axes.set(xscale="log", xlabel=f"ms a look-up among {size} million, warm: p50 (dot) to p99; dotted: 10 ms")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(folder / "peers-look-ups.png", dpi=130)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/benchmarks/peers.json")
    held = json.loads(file.read_text())
    for size in held["sizes"].values():
        price_compaction(size)
        for of in size["contenders"].values():
            of["state"] = size["workload"]["state"]
    for league in (SAME, RAW):
        print(f"### League: {league}\n\n" + "\n".join(table(held, league)))
    print("### Stages\n\n" + "\n".join(stages(held)))
    charts(held, file.parent)


if __name__ == "__main__":
    main()
