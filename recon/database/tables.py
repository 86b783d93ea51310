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
    sa.Column("landed_path", sa.Text),
    sa.Column("landed_digest", sa.String(64)),
    sa.Column("landings", sa.Integer, nullable=False, server_default="0"),
    sa.Column("rejects", sa.Text),
    sa.Column("delivered_at", Instant),
)
"""Received files. ``series``: what a newer version replaces; ``version``: the order within it, None where arrival orders. ``parent``: the
archive that the file was in. ``rows`` = ``kept`` + ``rejected_rows``. ``figures``: JSON of counts, see recon.intake.sources.convert.
``rules``: digest of the source's rules. ``landed_as``: the name in the window. ``landed_path``, ``landed_digest``: of the clean rows in
the store. ``landings``: how often they landed: once, and again each time that other rules made other rows of the same bytes, or that the
file was taken back and landed again. ``rejects``: path of the rejected rows in the store. ``delivered_at``: when the same name and bytes
were last delivered again; null where they came once."""

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

AGGREGATIONS = sa.Table(
    "aggregations",
    METADATA,
    sa.Column("reconciliation", sa.String(64), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("files", sa.Text),
    sa.Column("per", sa.Text, nullable=False, server_default="window"),
    sa.Column("expect", sa.Text),
    sa.Column("input", sa.Text, nullable=False, server_default="any"),
    sa.Column("least_rows", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("least_bytes", sa.Text),
    sa.Column("needs", sa.Text),
    sa.Column("criteria", sa.Text),
    sa.Column("time_zone", sa.Text),
    sa.Column("deadline", sa.Text),
    sa.Column("cadence", sa.Text),
    sa.Column("engine", sa.Text, nullable=False, server_default="configured"),
    sa.Column("filter", sa.Text),
    sa.Column("keys", sa.Text, nullable=False),
    sa.Column("measures", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("synced", sa.Text),
    sa.PrimaryKeyConstraint("reconciliation", "name"),
)
"""Definitions, see recon.aggregations.definitions.sections. ``expect``, ``needs``, ``keys`` and ``measures`` are JSON. ``synced``: the
columns as JSON when ``aggregations/NAME.yaml`` was last written here; null for a definition without a file."""

AGGREGATION_EVALUATIONS = sa.Table(
    "aggregation_evaluations",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("reconciliation", sa.String(64), nullable=False),
    sa.Column("aggregation", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("due", sa.Boolean, nullable=False),
    sa.Column("answers", sa.Text, nullable=False),
    sa.Column("versions", sa.Text, nullable=False),
    sa.Column("rules", sa.String(64), nullable=False),
)
"""Evaluations whose answers differ from those before. ``answers``: JSON of condition → holds and why. ``versions``: numbers of files, with
commas between. ``rules``: digest of the definition."""

AGGREGATION_RUNS = sa.Table(
    "aggregation_runs",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("reconciliation", sa.String(64), nullable=False),
    sa.Column("aggregation", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
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
"""Runs of aggregations: claimed → running → completed, failed or cancelled. ``replays``: the run whose versions it takes again.
``worker``: the process, or the run of Dagster, that works. ``lease_until``: in the database's clock. ``load``: the id of its entry in the
warehouse's ledger."""

AGGREGATION_OVERRIDES = sa.Table(
    "aggregation_overrides",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("reconciliation", sa.String(64), nullable=False),
    sa.Column("aggregation", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    sa.Column("condition", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("run", _ID),
)
"""Conditions that a person has set aside, once: ``run`` is the run that used it."""

sa.Index("files_versions", *(FILES.c[name] for name in ("reconciliation", "state", "source", "window", "id", "landings", "kept", "size")))
sa.Index("aggregation_evaluations_scope", *(AGGREGATION_EVALUATIONS.c[name] for name in ("reconciliation", "aggregation", "scope", "id")))
sa.Index("aggregation_runs_scope", *(AGGREGATION_RUNS.c[name] for name in ("reconciliation", "aggregation", "scope", "id")))
_ACTIVE = AGGREGATION_RUNS.c.state.in_(("claimed", "running"))
sa.Index(
    "aggregation_runs_active",
    *(AGGREGATION_RUNS.c[name] for name in ("reconciliation", "aggregation", "scope")),
    unique=True,
    sqlite_where=_ACTIVE,
    postgresql_where=_ACTIVE,
)
sa.Index("aggregation_overrides_scope", *(AGGREGATION_OVERRIDES.c[name] for name in ("reconciliation", "aggregation", "scope")))

SERVICE = sa.Table(
    "service",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reconciliation", sa.String(64), nullable=False),
)
"""Its one row, 1: the reconciliation whose service has the tables below."""

REQUESTS = sa.Table(
    "requests",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
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
    sa.Column("sent_at", Instant),
    sa.Column("queued_at", Instant),
    sa.Column("started_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("worker", sa.String(200), nullable=False, server_default=""),
    sa.Column("lease_until", Instant),
    sa.Column("cancel_at", Instant),
    sa.Column("step", sa.Text),
    sa.Column("place", sa.String(64)),
    sa.Column("results", sa.Text, nullable=False, server_default="[]"),
    sa.Column("expires_at", Instant),
    sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
)
"""Requests of the service. ``name``: random, for others to name it by. ``token``: that it was submitted with. ``lane``: small or large, by
``size``, bytes of the inputs. ``body``: JSON as submitted, ``digest`` its SHA-256. ``key``: the Idempotency-Key, valid until ``key_until``.
``state``: received → queued → running → done, failed, cancelled or dead. ``problem``: JSON of code, operation and field. ``tries``: begun.
``sent_at``: when its message was sent last. ``not_before``: a next try. ``worker``, ``lease_until``: who works on it and until when it need
give no sign of life. ``cancel_at``: when its end was asked for. ``step``: JSON of cluster and step. ``place``: the folder of its results,
named before anything is put there. ``results``: JSON of name, digest, bytes, rows and the owner's place of each. ``figures``: JSON, see
recon.service.figures."""

REQUEST_EVENTS = sa.Table(
    "request_events",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("request", _ID, sa.ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("what", sa.Text, nullable=False, server_default=""),
    sa.Column("share", sa.Integer),
)
"""What happened to a request: changes of its state, and its progress in percent (``share``)."""

REQUEST_TURNS = sa.Table(
    "request_turns",
    METADATA,
    sa.Column("lane", sa.String(8), nullable=False),
    sa.Column("owner", sa.String(63), nullable=False),
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("lane", "owner"),
)
"""Whose turn it is: see recon.service.fairness. The owner "" has the turn of the last claim of the lane."""

UPLOADS = sa.Table(
    "uploads",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(32), nullable=False, unique=True),
    sa.Column("owner", sa.String(63), nullable=False),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
)
"""Files that owners uploaded, in the store of results under ``uploads/``. ``file``: its own name. Removed with the last request that names
it, or at ``expires_at``."""

REQUEST_UPLOADS = sa.Table(
    "request_uploads",
    METADATA,
    sa.Column("request", _ID, sa.ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    sa.Column("upload", _ID, sa.ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    sa.PrimaryKeyConstraint("request", "upload"),
)
"""The uploads that a request reads."""

TOKENS = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("owner", sa.String(63), nullable=False),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("withdrawn_at", Instant),
)
"""Tokens of the service: the SHA-256 of their text, in hex. ``roles``: with commas between."""

sa.Index("requests_waiting", REQUESTS.c.state, REQUESTS.c.lane, REQUESTS.c.owner, REQUESTS.c.id)
sa.Index("requests_of_owner", REQUESTS.c.owner, REQUESTS.c.id)
sa.Index("requests_received", REQUESTS.c.owner, REQUESTS.c.received_at)
sa.Index("requests_ended", REQUESTS.c.ended_at)
sa.Index("requests_key", REQUESTS.c.owner, REQUESTS.c.key, unique=True)
sa.Index("request_events_request", REQUEST_EVENTS.c.request, REQUEST_EVENTS.c.id)
sa.Index("request_uploads_upload", REQUEST_UPLOADS.c.upload)
sa.Index("uploads_of_owner", UPLOADS.c.owner)
