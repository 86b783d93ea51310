"""The tables, as SQLAlchemy knows them. ``migrations`` makes them; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa

from recon.database.types import Instant

METADATA = sa.MetaData()

FILES = sa.Table(
    "files",
    METADATA,
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
"""Received files. ``series``: what a newer version replaces; ``version``: the order within it, None where arrival orders. ``parent``: the
archive that the file was in. ``rows`` = ``kept`` + ``rejected_rows``. ``figures``: JSON of counts, see recon.intake.sources.convert.
``rules``: digest of the source's rules. ``landed_as``: the name in the window. ``rejects``: path of the rejected rows in the store."""

FILE_RUNS = sa.Table(
    "file_runs",
    METADATA,
    sa.Column("file", sa.Integer, sa.ForeignKey("files.id"), nullable=False),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("file", "run", "step"),
)
"""The runs that worked on a file, and at which step."""

sa.Index("files_identity", FILES.c.reconciliation, FILES.c.source, FILES.c.digest)
sa.Index("files_window", FILES.c.reconciliation, FILES.c.window, FILES.c.source)
sa.Index("files_state", FILES.c.reconciliation, FILES.c.state)
