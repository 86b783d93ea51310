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

DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("reconciliation", sa.String(64), nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("stamp", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("reconciliation", "place"),
)
"""Where received files came from, so that a folder is read again only where something changed. ``place``: a path, or a URL. ``stamp``: size
and time of change, or an ETag."""

sa.Index("files_identity", FILES.c.reconciliation, FILES.c.source, FILES.c.digest)
sa.Index("files_window", FILES.c.reconciliation, FILES.c.window, FILES.c.source)
sa.Index("files_state", FILES.c.reconciliation, FILES.c.state)

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself

RECORD_FILES = sa.Table(
    "record_files",
    METADATA,
    sa.Column("file", sa.String(200), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cleaned_to", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cleaned", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("began_at", Instant, nullable=False),
)
"""Files whose records go through the queue. ``file``: reconciliation/source/digest. ``rows``: records sent so far, up to line
``cleaned_to``. ``cleaned``: whether these are all."""

RECORD_PARCELS = sa.Table(
    "record_parcels",
    METADATA,
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
"""Records of a file from line ``first`` to ``last``, and their common state: open, finished, dead or discarded. ``round``: how often they
were redriven. ``names``, ``records``: the columns and texts, of the result once finished; see recon.intake.queues.parcels."""

RECORD_ACTIONS = sa.Table(
    "record_actions",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("file", sa.String(200), nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("action", sa.String(10), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("before", sa.Text),
)
"""What people did to dead letters: edit, redrive, discard. ``before``: the records before an edit."""

QUEUE_MESSAGES = sa.Table(
    "queue_messages",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("queue", sa.String(100), nullable=False),
    sa.Column("visible_at", sa.BigInteger, nullable=False),
    sa.Column("received", sa.Integer, nullable=False, server_default="0"),
    sa.Column("receipt", sa.String(32), nullable=False, server_default=""),
    sa.Column("sent_at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
"""Messages of the embedded queues. Times are microseconds since 1970. ``received``: how often; ``receipt``: of the last time."""

QUEUE_DEAD_LETTERS = sa.Table(
    "queue_dead_letters",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("queue", sa.String(100), nullable=False),
    sa.Column("received", sa.Integer, nullable=False),
    sa.Column("sent_at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
"""Messages that were received too often."""

sa.Index("record_parcels_state", RECORD_PARCELS.c.state, RECORD_PARCELS.c.file)
sa.Index("record_actions_parcel", RECORD_ACTIONS.c.file, RECORD_ACTIONS.c.first)
sa.Index("queue_messages_next", QUEUE_MESSAGES.c.queue, QUEUE_MESSAGES.c.visible_at)
sa.Index("queue_dead_letters_queue", QUEUE_DEAD_LETTERS.c.queue)
