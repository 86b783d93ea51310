"""Received files, their runs, and the arrivals that are expected."""

import sqlalchemy as sa
from alembic import op

from recon.database.types import Instant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("reconciliation", sa.String(64), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("series", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger),
        sa.Column("parent", sa.Text),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("window", sa.String(20)),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("validated_at", Instant),
        sa.Column("converted_at", Instant),
        sa.Column("landed_at", Instant),
        sa.Column("rejected_at", Instant),
        sa.Column("superseded_at", Instant),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("rows", sa.BigInteger),
        sa.Column("kept", sa.BigInteger),
        sa.Column("rejected_rows", sa.BigInteger),
        sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
        sa.Column("rules", sa.String(64), nullable=False, server_default=""),
        sa.Column("landed_as", sa.Text),
        sa.Column("rejects", sa.Text),
    )
    op.create_index("files_identity", "files", ["reconciliation", "source", "digest"])
    op.create_index("files_window", "files", ["reconciliation", "window", "source"])
    op.create_index("files_state", "files", ["reconciliation", "state"])
    op.create_table(
        "file_runs",
        sa.Column("file", sa.Integer, sa.ForeignKey("files.id"), nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("file", "run", "step"),
    )
    op.create_table(
        "deliveries",
        sa.Column("reconciliation", sa.String(64), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("stamp", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("reconciliation", "place"),
    )
