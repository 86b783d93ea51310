"""Small rules without identity and time: every row counts."""

from __future__ import annotations

from oracle import Control, Measure, Rules

PLAIN_YAML = """\
name: plain
store: ./data
key: [order_id, currency]
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}}
measures: {total: {sum: amount}, lines: {count: "*"}, types: {max: event_type}}
status: [{POSITIVE: total > 0}]
control: {amount: {sum: amount}}
"""

PLAIN_RULES = Rules(
    key=("order_id", "currency"),
    types={"amount": ("decimal", 18, 2), "event_type": "text", "currency": "text", "order_id": "text"},
    measures=(Measure("total", "sum", "amount"), Measure("lines", "count"), Measure("types", "max", "event_type")),
    status=(("POSITIVE", lambda scope: scope["total"] is not None and scope["total"] > 0),),
    control=(Control("amount", "sum", "amount"),),
)
