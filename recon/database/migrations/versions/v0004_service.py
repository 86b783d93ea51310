"""The service: requests, their events, turns and uploads; tokens."""

import sqlalchemy as sa
from alembic import op

from recon.database.types import Instant

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _number() -> sa.Column[int]:
    return sa.Column("id", _ID, primary_key=True, autoincrement=True)


def upgrade() -> None:
    _make_requests()
    _make_what_belongs_to_requests()
    op.create_table(
        "tokens",
        _number(),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        *(sa.Column(name, Instant, nullable=False) for name in ("made_at", "expires_at")),
        sa.Column("withdrawn_at", Instant),
    )


def _make_requests() -> None:
    op.create_table(
        "requests",
        _number(),
        sa.Column("name", sa.String(32), nullable=False, unique=True),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("token", _ID),
        sa.Column("lane", sa.String(8), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255)),
        sa.Column("key_until", Instant),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("problem", sa.Text, nullable=False, server_default="{}"),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", Instant),
        sa.Column("received_at", Instant, nullable=False),
        *(sa.Column(name, Instant) for name in ("queued_at", "started_at", "ended_at")),
        sa.Column("worker", sa.String(200), nullable=False, server_default=""),
        *(sa.Column(name, Instant) for name in ("lease_until", "cancel_at")),
        sa.Column("step", sa.Text),
        sa.Column("place", sa.String(64)),
        sa.Column("results", sa.Text, nullable=False, server_default="[]"),
        sa.Column("expires_at", Instant),
        sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
    )
    op.create_index("requests_waiting", "requests", ["state", "lane", "owner", "id"])
    op.create_index("requests_of_owner", "requests", ["owner", "id"])
    op.create_index("requests_received", "requests", ["owner", "received_at"])
    op.create_index("requests_ended", "requests", ["ended_at"])
    op.create_index("requests_key", "requests", ["owner", "key"], unique=True)


def _make_what_belongs_to_requests() -> None:
    op.create_table(
        "request_events",
        _number(),
        sa.Column("request", _ID, sa.ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("what", sa.Text, nullable=False, server_default=""),
        sa.Column("share", sa.Integer),
    )
    op.create_index("request_events_request", "request_events", ["request", "id"])
    op.create_table(
        "request_turns",
        sa.Column("lane", sa.String(8), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("lane", "owner"),
    )
    op.create_table(
        "uploads",
        _number(),
        sa.Column("name", sa.String(32), nullable=False, unique=True),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        *(sa.Column(name, Instant, nullable=False) for name in ("at", "expires_at")),
    )
    op.create_index("uploads_of_owner", "uploads", ["owner"])
    op.create_table(
        "request_uploads",
        sa.Column("request", _ID, sa.ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
        sa.Column("upload", _ID, sa.ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
        sa.PrimaryKeyConstraint("request", "upload"),
    )
    op.create_index("request_uploads_upload", "request_uploads", ["upload"])
