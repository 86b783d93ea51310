"""Aggregations: definitions, evaluations, runs, overrides; where and how often the clean rows of a received file landed."""

import sqlalchemy as sa
from alembic import op

from recon.database.types import Instant

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_SCOPE = ("reconciliation", "aggregation", "scope")


def upgrade() -> None:
    op.add_column("files", sa.Column("landed_path", sa.Text))
    op.add_column("files", sa.Column("landed_digest", sa.String(64)))
    op.add_column("files", sa.Column("landings", sa.Integer, nullable=False, server_default="0"))
    op.add_column("files", sa.Column("delivered_at", Instant))
    op.create_index("files_versions", "files", ["reconciliation", "state", "source", "window", "id", "landings", "kept", "size"])
    _make_definitions()
    _make_evaluations()
    _make_runs()
    _make_overrides()


def _scope() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(20 if name == "scope" else 64), nullable=False) for name in _SCOPE]


def _make_definitions() -> None:
    op.create_table(
        "aggregations",
        sa.Column("reconciliation", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("files", sa.Text),
        sa.Column("per", sa.Text, nullable=False, server_default="window"),
        sa.Column("expect", sa.Text),
        sa.Column("input", sa.Text, nullable=False, server_default="any"),
        sa.Column("least_rows", sa.BigInteger, nullable=False, server_default="0"),
        *(sa.Column(name, sa.Text) for name in ("least_bytes", "needs", "criteria", "time_zone", "deadline", "cadence")),
        sa.Column("engine", sa.Text, nullable=False, server_default="configured"),
        sa.Column("filter", sa.Text),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("keys", "measures", "target")),
        sa.Column("synced", sa.Text),
        sa.PrimaryKeyConstraint("reconciliation", "name"),
    )


def _make_evaluations() -> None:
    op.create_table(
        "aggregation_evaluations",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        *_scope(),
        sa.Column("at", Instant, nullable=False),
        sa.Column("due", sa.Boolean, nullable=False),
        sa.Column("answers", sa.Text, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("rules", sa.String(64), nullable=False),
    )
    op.create_index("aggregation_evaluations_scope", "aggregation_evaluations", [*_SCOPE, "id"])


def _make_runs() -> None:
    op.create_table(
        "aggregation_runs",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        *_scope(),
        sa.Column("evaluation", _ID, sa.ForeignKey("aggregation_evaluations.id"), nullable=False),
        sa.Column("replays", _ID),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("worker", sa.String(200), nullable=False, server_default=""),
        sa.Column("lease_until", Instant, nullable=False),
        sa.Column("claimed_at", Instant, nullable=False),
        sa.Column("started_at", Instant),
        sa.Column("ended_at", Instant),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("load", sa.String(64), nullable=False),
        sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
    )
    op.create_index("aggregation_runs_scope", "aggregation_runs", [*_SCOPE, "id"])
    active = sa.text("state IN ('claimed', 'running')")
    op.create_index("aggregation_runs_active", "aggregation_runs", [*_SCOPE], unique=True, sqlite_where=active, postgresql_where=active)


def _make_overrides() -> None:
    op.create_table(
        "aggregation_overrides",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        *_scope(),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("condition", "reason", "by")),
        sa.Column("at", Instant, nullable=False),
        sa.Column("run", _ID),
    )
    op.create_index("aggregation_overrides_scope", "aggregation_overrides", [*_SCOPE])
