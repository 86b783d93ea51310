"""Control totals, which must tie from stage to stage. They are exact and never add two currencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

Money = dict[str, dict[str, Decimal]]
"""Control name → value of its ``by`` column (``""`` without such a column, ``"null"`` where the column is empty) → total."""


@dataclass(frozen=True)
class Totals:
    """Rows and control totals of one group of events."""

    rows: int = 0
    money: Money = field(default_factory=dict)

    def __add__(self, other: Totals) -> Totals:
        return self._combine(other, 1)

    def __sub__(self, other: Totals) -> Totals:
        return self._combine(other, -1)

    def nothing(self) -> Totals:
        """Zero for the same controls and groups."""
        return self - self

    def _combine(self, other: Totals, sign: int) -> Totals:
        money: Money = {name: dict(groups) for name, groups in self.money.items()}
        with localcontext() as exact:
            exact.prec = 80
            for name, groups in other.money.items():
                mine = money.setdefault(name, {})
                for by, amount in groups.items():
                    mine[by] = mine.get(by, Decimal(0)) + sign * amount
        return Totals(self.rows + sign * other.rows, money)

    def differences(self, other: Totals) -> list[str]:
        """One text for each total that does not tie; empty if all tie."""
        found = [] if self.rows == other.rows else [f"rows {self.rows} ≠ {other.rows}"]
        for name in sorted({*self.money, *other.money}):
            mine, theirs = self.money.get(name, {}), other.money.get(name, {})
            for by in sorted({*mine, *theirs}):
                left, right = mine.get(by, Decimal(0)), theirs.get(by, Decimal(0))
                if left != right:
                    found.append(f"{name}{f' {by}' if by else ''} {left} ≠ {right}")
        return found

    def to_json(self) -> dict[str, Any]:
        money = {
            name: plain(groups[""]) if set(groups) == {""} else {by: plain(groups[by]) for by in sorted(groups)}
            for name, groups in self.money.items()
        }
        return {"rows": self.rows, **money}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Totals:
        money: Money = {}
        for name, value in raw.items():
            if name != "rows":
                groups = value if isinstance(value, dict) else {"": value}
                money[name] = {by: Decimal(str(amount)) for by, amount in groups.items()}
        return Totals(raw["rows"], money)


def declared_totals(raw: Mapping[str, Any], rows: int = 0) -> Totals | None:
    """The control totals that a sender declared. ``rows``: used if the sender declared no rows. None if a total is no number."""
    try:
        found = Totals.from_json({"rows": rows, **raw})
    except (ArithmeticError, TypeError, ValueError):
        return None
    amounts = [amount for groups in found.money.values() for amount in groups.values()]
    whole = isinstance(found.rows, int) and not isinstance(found.rows, bool) and found.rows >= 0
    return found if whole and all(amount.is_finite() for amount in amounts) else None


def declared_text(declared: Mapping[str, Any]) -> str:
    """Declared totals as ``--expect`` takes them: ``rows=3, amount:EUR=12.00``."""
    named = []
    for name, value in declared.items():
        groups = [(f"{name}:{group}", total) for group, total in value.items()] if isinstance(value, dict) else [(name, value)]
        named += [f"{what}={total}" for what, total in groups]
    return ", ".join(named)


def exact_sum(values: Iterable[Decimal | str | int]) -> Decimal:
    """The sum of numbers of up to 38 digits each, which Python's default context would round to 28."""
    with localcontext() as exact:
        exact.prec = 80
        return sum((Decimal(value) for value in values), Decimal(0))


def plain(amount: Decimal) -> str:
    """An amount in plain digits: ``str`` would write a small one as 1E-10."""
    return format(amount, "f")


def groups_of(parts: Iterable[Totals]) -> list[tuple[str, str]]:
    """Every control name and group of the parts, in order."""
    return sorted({(name, by) for part in parts for name, groups in part.money.items() for by in groups})


def amounts_of(parts: Sequence[Totals], name: str, by: str) -> list[Decimal]:
    """The total of a control and group in each of ``parts``; one has it. Zeros have the digits of the others: 0.00 beside 12.50."""
    values = [part.money.get(name, {}).get(by, Decimal(0)) for part in parts]
    scale = min(int(value.as_tuple().exponent) for value in values)
    return [value or Decimal((0, (0,), scale)) for value in values]


def total_of(parts: Iterable[Totals]) -> Totals:
    """The sum."""
    return sum(parts, Totals())


def subtract_measures(left: Mapping[str, str | int], right: Mapping[str, str | int]) -> dict[str, str | int]:
    """``left`` less ``right``, by additive measure."""
    with localcontext() as exact:
        exact.prec = 80
        return {name: plain(Decimal(left[name]) - Decimal(right[name])) for name in left}


def sum_measures(parts: Iterable[Mapping[str, str | int]]) -> dict[str, str | int]:
    """The sum, by additive measure."""
    total: dict[str, str | int] = {}
    for part in parts:
        nothing: dict[str, str | int] = dict.fromkeys(part, "0")
        negative = subtract_measures(nothing, part)
        total = subtract_measures({**nothing, **total}, {**dict.fromkeys(total, "0"), **negative})
    return total


def as_totals(names: list[str], values: Any) -> dict[str, str | int]:
    """Name → exact number as figures have it: decimals as text, None as zero."""
    return {name: plain(Decimal(0 if value is None else value)) for name, value in zip(names, values, strict=True)}
