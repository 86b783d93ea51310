"""Record queues: files, parcels, actions of people, messages and dead letters."""

import sqlalchemy as sa
from alembic import op

from recon.database.types import Instant

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _make_records()
    _make_queues()


def _make_records() -> None:
    op.create_table(
        "record_files",
        sa.Column("file", sa.String(200), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cleaned_to", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cleaned", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("began_at", Instant, nullable=False),
    )
    op.create_table(
        "record_parcels",
        sa.Column("file", sa.String(200), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("names", sa.Text),
        sa.Column("records", sa.Text),
        sa.PrimaryKeyConstraint("file", "first"),
    )
    op.create_index("record_parcels_state", "record_parcels", ["state", "file"])
    op.create_table(
        "record_actions",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("file", sa.String(200), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("action", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("before", sa.Text),
    )
    op.create_index("record_actions_parcel", "record_actions", ["file", "first"])


def _make_queues() -> None:
    op.create_table(
        "queue_messages",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("visible_at", sa.BigInteger, nullable=False),
        sa.Column("received", sa.Integer, nullable=False, server_default="0"),
        sa.Column("receipt", sa.String(32), nullable=False, server_default=""),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("queue_messages_next", "queue_messages", ["queue", "visible_at"])
    op.create_table(
        "queue_dead_letters",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("received", sa.Integer, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("queue_dead_letters_queue", "queue_dead_letters", ["queue"])
