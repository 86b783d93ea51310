"""The paths of all objects in a store. No other module makes one.

    store.json                                             what this store is
    copying.json                                           the source of an unfinished copy; there is no store.json then
    events/<window>/manifests/<revision>.json              the list of files of a window's revision
    events/<window>/files/<digest>-<attempt>/<name>        landed files, unchanged
    received/<digest>/<attempt>/<name>                     files as received by a source, before they are converted
    received/rejects/<attempt>.parquet                     rows that a source rejected: line, place, reason, raw
    received/reference/<attempt>.parquet                   clean rows of reference data, which belong to no window's batch
    clean/<attempt>.parquet                                clean rows that functions on AWS take through the record queue; they expire
    landings/<day>/<hour>/<time>-<window>-<revision>-<attempt>   an empty note that a window's revision is about to be put
    clock/<attempt>                                        put and removed to read the storage's clock
    corrections/<digest>.json                              a correction that was begun; removed once it has landed
    leases/<name>/<number>/taken, beats/<n>, released      who works on what, and the last heartbeat
    quarantine/<window>/<revision>-<judged by>-<digest>.json   why a window's revision could not be processed
    stateless/<window>/<revision>-<rules>-<attempt>/       artifacts, events, set_aside (Parquet), figures.json (written last)
    stateless/aggregations/<run>-<rules>-<attempt>/        the same of a run of an aggregation, until it has loaded them
    prefetched/<attempt>.arrow                             records read ahead for one merge, or the list of their pieces
    state/<attempt>/part-0000.words, merge.run             part-files and the run beside them
    state/<attempt>/part-0000-<task>.words, .run, merge-<task>.run, <piece>-0000-<task>.…   the same, written by tasks of Spark
    state/<attempt>/tier.run, compact-<number>.run         several runs merged into one
    rules/<version>.json                                   the configuration and logic that made commits of this rules version
    timeline/<commit>.json, timeline/checkpoints/<level>/<commit>
    generations/<attempt>/begun.json, timeline/…           a rebuild: its start, and its own timeline
    frontiers/<name>/<number>.json                         how far a process has come that would otherwise read all windows
    serving/tables/<number>/begun.json, outcome.json, retired   an index table: its start, its outcome, a rebuild replaced it
    indexed/<window>/<commit>                              an empty note that the index holds a window's commit
    certificates/<window>/<number>.json
    loads/<aggregation>/<scope>/<run>.json                 the certificate of a load into the warehouse
    cache/seal                                             the secret that marks cache entries as this store's
    shares/<table>/<plan>/plan.json, finished.json         the shares that workers load into an index table; their sums
    shares/<table>/<plan>/<share>/<attempt>/<entry>, done  one attempt at a share; the counts of the share
    steps/<attempt>/asked.json, answer.json                a stage that runs on a cluster: request and result

``<attempt>`` is a random name that no other process uses.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime

STORE = "store.json"
COPYING = "copying.json"
RULES = "rules/"
QUARANTINE = "quarantine/"
INDEXED = "indexed/"
CERTIFICATES = "certificates/"
SHARES = "shares/"
EVENTS = "events/"
TIMELINE = "timeline/"
LANDINGS = "landings/"
CORRECTIONS = "corrections/"
CLOCK = "clock/"
LEASES = "leases/"
GENERATIONS = "generations/"
STATE = "state/"
STATELESS = "stateless/"
AGGREGATED = "stateless/aggregations/"
PREFETCHED = "prefetched/"
CACHE_SEAL = "cache/seal"
SERVING_TABLES = "serving/tables/"
STEPS = "steps/"
RECEIVED = "received/"
REFERENCE = f"{RECEIVED}reference/"
LOADS = "loads/"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def new_attempt() -> str:
    """A fresh id for one attempt at writing something: 16 hex characters, never used twice."""
    return secrets.token_hex(8)


def folder_name(window: datetime) -> str:
    """A window's folder: its start without the colon, which some file systems refuse."""
    return window.strftime("%Y-%m-%dT%H%MZ")


def window_name(folder: str) -> str:
    """The name of the window of a folder: ``2026-11-01T0000Z`` → ``2026-11-01T00:00Z``."""
    return f"{folder[:13]}:{folder[13:]}"


def received(digest: str) -> str:
    """The prefix of all copies of received bytes of this SHA-256; one is enough."""
    return f"{RECEIVED}{digest}/"


def received_file(digest: str, attempt: str, name: str) -> str:
    return f"{received(digest)}{attempt}/{_UNSAFE.sub('_', name)[-100:]}"


def received_rejects(attempt: str) -> str:
    return f"{RECEIVED}rejects/{attempt}.parquet"


def clean(attempt: str) -> str:
    return f"clean/{attempt}.parquet"


def received_reference(attempt: str) -> str:
    return f"{REFERENCE}{attempt}.parquet"


def manifests(window: datetime) -> str:
    return f"{EVENTS}{folder_name(window)}/manifests/"


def manifest(window: datetime, revision: int) -> str:
    return f"{manifests(window)}{revision:06d}.json"


def landing_day(instant: datetime) -> str:
    return instant.strftime(f"{LANDINGS}%Y-%m-%d/")


def landing_hour(instant: datetime) -> str:
    return instant.strftime(f"{LANDINGS}%Y-%m-%d/%H/")


def landing_instant(instant: datetime) -> str:
    """The prefix of the notes of one instant."""
    return f"{landing_hour(instant)}{instant:%M%S.%f}"


def landing(instant: datetime, window: datetime, revision: int, attempt: str) -> str:
    """The name holds the time (UTC), the window, its revision, and an attempt that makes it unique."""
    return f"{landing_instant(instant)}-{folder_name(window)}-{revision:06d}-{attempt}"


def landings_of(digest: str) -> str:
    """Notes of the windows that bytes of this SHA-256 landed in."""
    return f"{LANDINGS}bytes/{digest}/"


def landed_bytes(digest: str, window: datetime) -> str:
    return f"{landings_of(digest)}{folder_name(window)}"


def correction(digest: str) -> str:
    """A correction that was begun: its event, window and file. ``digest``: of the maker's input."""
    return f"{CORRECTIONS}{digest}.json"


def clock(attempt: str) -> str:
    return f"{CLOCK}{attempt}"


def loads(aggregation: str, scope: str) -> str:
    return f"{LOADS}{aggregation}/{scope.replace(':', '')}/"


def load_certificate(aggregation: str, scope: str, run: int) -> str:
    return f"{loads(aggregation, scope)}{run:09d}.json"


def lease(name: str) -> str:
    return f"{LEASES}{name}/"


def lease_object(name: str, number: int, what: str) -> str:
    """``what``: ``taken``, ``released`` or ``beats/<number>``."""
    return f"{lease(name)}{number:08d}/{what}"


def lease_taken(name: str, number: int) -> str:
    return lease_object(name, number, "taken")


def lease_beat(name: str, number: int, beat: int) -> str:
    return lease_object(name, number, f"beats/{beat:08d}")


def lease_released(name: str, number: int) -> str:
    return lease_object(name, number, "released")


def quarantine_of(window: datetime, revision: int, judged_by: str) -> str:
    """The prefix of all reasons why this revision could not be processed by these rules."""
    return f"{quarantine(window)}{revision:06d}-{judged_by}-"


def quarantine(window: datetime) -> str:
    return f"{QUARANTINE}{folder_name(window)}/"


def landed_files(window: datetime) -> str:
    return f"{EVENTS}{folder_name(window)}/files/"


def landed_file(window: datetime, digest: str, attempt: str, name: str) -> str:
    """``name`` is the user's: only its safe characters go into the path; the manifest keeps it unchanged."""
    safe = _UNSAFE.sub("_", name)[-100:].lstrip(".") or "file"
    return f"{landed_files(window)}{digest[:16]}-{attempt}/{safe}"


def stateless_of(window: datetime) -> str:
    return f"stateless/{folder_name(window)}/"


def stateless(window: datetime, revision: int, rules: str, attempt: str) -> str:
    """The folder of one attempt at reducing a window's revision by one version of the rules."""
    return f"{stateless_by(window, revision, rules)}{attempt}/"


def stateless_by(window: datetime, revision: int, rules: str) -> str:
    """The prefix of all attempts at it. A negative revision is that of no window: see ``revision_of_run``."""
    return f"{aggregated(-revision)}{rules}-" if revision < 0 else f"{stateless_of(window)}{revision:06d}-{rules}-"


def revision_of_run(run: int) -> int:
    """The revision under which a run of an aggregation reduces its files, apart from those of windows."""
    return -run


def aggregated(run: int) -> str:
    """The prefix of what a run of an aggregation has reduced."""
    return f"{AGGREGATED}{run:09d}-"


def prefetched(attempt: str) -> str:
    return f"{PREFETCHED}{attempt}.arrow"


def part_file(attempt: str, number: int, task: str = "") -> str:
    """``task``: the attempt of the task that writes it, where a stage runs as tasks that may be repeated."""
    return f"state/{attempt}/part-{number:04d}{_of_task(task)}.words"


def merge_run(attempt: str, task: str = "") -> str:
    return f"state/{attempt}/merge{_of_task(task)}.run"


def slice_run(attempt: str, number: int, task: str) -> str:
    """The run of one part-file, before those of a commit are joined."""
    return f"state/{attempt}/part-{number:04d}{_of_task(task)}.run"


def piece(attempt: str, name: str, number: int, task: str, suffix: str) -> str:
    """An intermediate file from one task of a stage to the next. No commit names it, so it is swept if it is left over."""
    return f"state/{attempt}/{name}-{number:04d}{_of_task(task)}.{suffix}"


def _of_task(task: str) -> str:
    return f"-{task}" if task else ""


def tier_run(attempt: str) -> str:
    return f"state/{attempt}/tier.run"


def compacted_run(attempt: str, number: int) -> str:
    """The run of a compaction's ``number``-th try."""
    return f"state/{attempt}/compact-{number:04d}.run"


def attempt_of(path: str) -> str:
    """The attempt that a part-file or run belongs to, "" of any other path."""
    return path.split("/")[1] if path.startswith(STATE) else ""


def rules(version: str) -> str:
    return f"{RULES}{version}.json"


def generation(attempt: str) -> str:
    """The folder of the timeline of a rebuild."""
    return f"{GENERATIONS}{attempt}/{TIMELINE}"


def generation_begun(attempt: str) -> str:
    return f"{GENERATIONS}{attempt}/begun.json"


def commit(number: int, timeline: str = TIMELINE) -> str:
    """``timeline``: the folder of the timeline that the commit belongs to."""
    return f"{timeline}{number:012d}.json"


def checkpoints(timeline: str = TIMELINE) -> str:
    return f"{timeline}checkpoints/"


def checkpoint(number: int, level: int, timeline: str = TIMELINE) -> str:
    return f"{checkpoints(timeline)}{level}/{number:012d}"


def frontier(name: str) -> str:
    return f"frontiers/{name}/"


def frontier_at(name: str, number: int) -> str:
    return f"{frontier(name)}{number:012d}.json"


def serving_table_retired(number: int) -> str:
    """An empty note that a rebuild has replaced a table: clients no longer read it."""
    return f"{serving_table(number)}retired"


def run_name(path: str) -> str:
    """A run's path below ``state/`` as one word."""
    return path.removeprefix(STATE).removesuffix(".run").replace("/", "-")


def serving_import(number: int) -> str:
    """The folder of the files from which DynamoDB imports the table of a build."""
    return f"serving/imports/{number:06d}/"


def serving_table(number: int) -> str:
    return f"{SERVING_TABLES}{number:06d}/"


def serving_table_begun(number: int) -> str:
    return f"{serving_table(number)}begun.json"


def serving_table_outcome(number: int) -> str:
    """Created once: the table is complete, or its build was given up."""
    return f"{serving_table(number)}outcome.json"


def indexed(window: datetime) -> str:
    return f"{INDEXED}{folder_name(window)}/"


def indexed_commit(window: datetime, commit: int) -> str:
    return f"{indexed(window)}{commit:012d}"


def certificates(window: datetime) -> str:
    return f"{CERTIFICATES}{folder_name(window)}/"


def certificate(window: datetime, number: int) -> str:
    return f"{certificates(window)}{number:06d}.json"


def plans(table: str) -> str:
    """All plans of a table of look-ups, whose name is the user's: AWS allows letters, digits, ``_``, ``-`` and ``.``."""
    return f"{SHARES}{_UNSAFE.sub('_', table)}/"


def plan(table: str, after: int) -> str:
    """The folder of the plan of what came after the commit ``after``."""
    return f"{plans(table)}{after:012d}/"


def plan_file(plan: str) -> str:
    return f"{plan}plan.json"


def plan_finished(plan: str) -> str:
    return f"{plan}finished.json"


def share_done(plan: str, share: str) -> str:
    return f"{plan}{share}/done"


def share_attempt(plan: str, share: str, attempt: str) -> str:
    return f"{plan}{share}/{attempt}/"


def attempt_entry(plan: str, share: str, attempt: str, number: int) -> str:
    return f"{share_attempt(plan, share, attempt)}{number:06d}"


def asked(attempt: str) -> str:
    return f"{STEPS}{attempt}/asked.json"


def answer(attempt: str) -> str:
    return f"{STEPS}{attempt}/answer.json"


def step_input(attempt: str, number: int) -> str:
    """What a step of a transformation reads of the reconciliation."""
    return f"{STEPS}{attempt}/inputs/{number}.parquet"


def step_pieces(attempt: str) -> str:
    """The folder of pieces of a transformation's outputs."""
    return f"{STEPS}{attempt}/pieces"
