"""Rules that differ from the standard ones in every part, and a small store for rebuilds by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import strategies as s
from histories import carry_out
from oracle import Measure

from recon.api import Reconciliation
from recon.state import reachable
from recon.state.timeline import Timeline

OTHER_YAML = (
    s.STANDARD_YAML.replace("dedupe: 2h", "dedupe: 1h")
    .replace("event_type = 'INVOICE'", "event_type in ('INVOICE', 'REFUND')")
    .replace("decimal(18,2)", "decimal(18,3)")
    .replace('- {UNPAID: "paid is null"}', '- {CREDIT: "balance < 0"}')
    .replace("  largest: {max: amount}\n", "  largest: {max: amount}\n  refunds: {count: amount, where: \"event_type = 'REFUND'\"}\n")
)

OTHER_RULES = replace(
    s.STANDARD_RULES,
    dedupe=timedelta(hours=1),
    types={**s.STANDARD_RULES.types, "amount": ("decimal", 18, 3)},
    measures=(
        Measure("billed", "sum", "amount", lambda row: None if row["event_type"] is None else row["event_type"] in ("INVOICE", "REFUND")),
        *s.STANDARD_RULES.measures[1:6],
        Measure("refunds", "count", "amount", lambda row: None if row["event_type"] is None else row["event_type"] == "REFUND"),
        *s.STANDARD_RULES.measures[6:],
    ),
    status=(
        ("MATCHED", lambda scope: scope["balance"] == 0),
        ("CREDIT", lambda scope: scope["balance"] < 0),
        ("BREAK", lambda scope: True),
    ),
)


def begun(r: Reconciliation) -> list[str]:
    """Generations that no commit names."""
    return [one.generation for one in reachable.open_generations(r.store(), Timeline(r.store()), r.state())]


def story(r: Reconciliation) -> s.State:
    """Three windows with duplicates across them, the first one corrected."""
    rows = [s.Row(order_id=f"K{n % 4}", event_id=str(n % 7), event_type=("INVOICE", "PAYMENT", "REFUND")[n % 3]) for n in range(15)]
    state = s.State()
    operations: list[s.Operation] = [s.Land(w, s.File(f"w{w}", tuple(rows[5 * w : 5 * w + 5]))) for w in range(3)]
    operations += [s.Close(w) for w in range(3)] + [s.Run((0, 1, 2)), s.Replace(0, "w0.csv", s.File("w0b", tuple(rows[:3]))), s.Run((0,))]
    for operation in operations:
        carry_out(r, operation)
        state = s.apply(state, operation)
    return state
