"""A long timeline: how long everything takes that looks at windows, when 100,000 of one minute each are committed.

    python benchmarks/windows.py [--windows 100000] [--commits 2000] [--out FILE.json]

The store is synthetic but in the true format: manifests, stateless figures, timeline entries, checkpoints, certificates and the notes of
landings, one file a window, as a store of 69 days holds them. Events and records are left out, since nothing that is measured reads them.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from command_line import options, write_figures

import recon
from jobs.build import build_definitions
from recon.config import Config
from recon.intake import landing_log
from recon.intake.manifests import LandedFile, Manifest
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.planning.due import due, follow
from recon.stages.work import Work
from recon.state import checkpoints
from recon.state.certificates import read_certificate, uncertified
from recon.state.committed import committed_figures
from recon.state.reduced import FIGURES, Figures
from recon.state.timeline import Entry, Fold, State, Timeline
from recon.storage import frontiers, layout
from recon.storage.local import LocalStore
from recon_assets.checks import CERTIFICATE_CHECKS
from resources.stores import ReconciliationStore, resource_key

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-01-01T00:00Z, every: 1m}
events: {types: {amount: "decimal(18,2)"}, id: event_id}
measures: {billed: {sum: amount}, lines: {count: "*"}}
status: [{MATCHED: "billed = 0"}, {BREAK: "true"}]
control: {amount: {sum: amount, by: currency}}
"""
ROWS = {"rows": 20, "amount": {"EUR": "1234.50", "USD": "99.10"}}
NOTHING = {"rows": 0, "amount": {}}


def committed(folder: str) -> dict[str, Any]:
    """What a timeline entry says of one window."""
    sides = {"arrived": ROWS, "accepted": ROWS, "duplicates": NOTHING, "rejected": NOTHING, "counted": ROWS, "suppressed": NOTHING}
    more = {"keys": 12, "conflicting": 0, "unreadable": {}, "measures": {"billed": "1333.60", "lines": 20}}
    return {"revision": 1, "folder": folder, **sides, **more, "cause": "land", "reason": "", "closed": True}


def write(root: Path, path: str, body: Any) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body if isinstance(body, str) else json.dumps(body, separators=(",", ":")))


def window_files(root: Path, config: Config, window: datetime) -> tuple[str, dict[str, Any]]:
    """Manifest, figures, note of the landing and certificate of a window; its name and what the timeline says of it."""
    name, landed = name_of(window), window + timedelta(minutes=2)
    digest = f"{int(window.timestamp()):064x}"
    path = layout.landed_file(window, digest, digest[-16:], "orders.csv")
    manifest = Manifest(name, 1, (LandedFile("orders.csv", digest, 1480, path),), True, "land", by="benchmark", time=landed.isoformat())
    write(root, layout.manifest(window, 1), {**manifest.__dict__, "files": [file.__dict__ for file in manifest.files]})
    write(root, layout.landing(landed, window, 1, digest[-16:]), "")
    folder = layout.stateless(window, 1, config.rules_version, digest[-16:])
    held = committed(folder)
    totals = {side: Totals.from_json(held[side]) for side in ("arrived", "accepted", "duplicates", "rejected")}
    files = [{"name": "orders.csv", "digest": digest, "bytes": 1480, "rows": 20, "rejected": 0}]
    figures = Figures(name, 1, config.rules_version, folder, files, 12, **totals, conflicting=0, cause="land")
    write(root, folder + FIGURES, figures.to_json())
    return name, held


def certificate(config: Config, name: str, held: dict[str, Any], commit: int) -> dict[str, Any]:
    sides = {"in": held["arrived"], "accepted": held["counted"], "duplicates": NOTHING, "rejected": NOTHING}
    last = {"number": 1, "state": "CLOSED", "files": [], "keys": 12, "commit": commit, "rules": config.rules_version, "ties": True}
    return {"reconciliation": config.name, "window": name, "revision": 1, **sides, **last, "changed_by": {"cause": "land", "reason": ""}}


def make_store(root: Path, config: Config, windows: int, commits: int) -> None:
    """``windows`` windows in ``commits`` commits of equal size, the last of them landed but not committed."""
    fold = Fold(State())
    per_commit = -(-windows // commits)
    for first in range(0, windows, per_commit):
        starts = [START + timedelta(minutes=number) for number in range(first, min(first + per_commit, windows))]
        held = dict(window_files(root, config, window) for window in starts)
        watermark, totals = name_of(starts[-1]), {"statuses": {"BREAK": 12 * (first + len(held))}}
        entry = Entry("merge", "benchmark", config.rules_version, held, totals=totals, watermark=watermark)
        entry = replace(entry, number=fold.commit + 1, time=(starts[-1] + timedelta(minutes=3)).isoformat())
        write(root, layout.commit(entry.number), entry.to_json().decode())
        fold.add(entry)
        for place in checkpoints.due(entry.number):
            checkpoints.write(LocalStore(root), layout.TIMELINE, place, fold.checkpoint(place))
        for name, figures in held.items():
            write(root, layout.certificate(config.grid.parse(name), 1), certificate(config, name, figures, entry.number))
    window_files(root, config, START + timedelta(minutes=windows))  # landed and closed, not committed yet
    frontiers.advance(LocalStore(root), "certified", fold.commit)


def measured(figures: dict[str, Any], what: str, action: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    figures[what] = {"wall_s": round(time.perf_counter() - wall, 3), "cpu_s": round(time.process_time() - cpu, 3)}
    print(f"    {figures[what]['wall_s']:9.3f} s wall {figures[what]['cpu_s']:9.3f} s CPU  {what}", flush=True)
    return result


def tick(built: Any, config: Config, stage: str, instance: dg.DagsterInstance, cursor: str | None) -> Any:
    """One evaluation of a stage's sensor, as the daemon does it. Merge has to ask for a run: there is one window to do."""
    stores = {resource_key(config.name): ReconciliationStore(config_file=str(config.path))}
    (sensor,) = [one for one in built.sensors or () if one.name == f"{config.name}_{stage}_sensor"]
    assert isinstance(sensor, dg.SensorDefinition)
    with dg.build_sensor_context(instance=instance, resources=stores, cursor=cursor) as context:
        answer = sensor.evaluate_tick(context)
    assert answer.run_requests or stage != "merge", f"the sensor found nothing to do: {answer.skip_message}"
    return answer.cursor


def loaded(config: Config) -> dg.Definitions:
    built = build_definitions(config.path)
    dg.Definitions.validate_loadable(built)
    return built


def checked(store: Any, config: Config) -> int:
    """Both checks over all windows, without their Dagster run: how many windows they find failing."""
    work = Work(store, config, Timeline(store))
    state = work.head()
    held = committed_figures(store, state, state.windows)
    return sum(bool(spec.fault(one)) for spec in CERTIFICATE_CHECKS if spec.name == "windows_tie" for one in held.values())


def measure(opened: recon.Reconciliation) -> dict[str, Any]:
    config, store, found = opened.config, opened.store(), dict[str, Any]()
    timeline = Timeline(store)
    state = measured(found, "Timeline.head(), opening", timeline.head)
    measured(found, "Timeline.head(), again", timeline.head)
    measured(found, "due (what waits)", lambda: due(store, config, state))
    measured(found, "landings.since (all notes)", lambda: landing_log.since(store))
    _, cursor = measured(found, "landings.follow, opening", lambda: follow(store, state))
    measured(found, "landings.follow, with its cursor", lambda: follow(store, state, cursor))
    measured(found, "uncertified", lambda: uncertified(store, config, state))
    measured(found, "one certificate", lambda: read_certificate(store, START))
    measured(found, "recon status, as on the screen", lambda: opened.status(figures_of=20))
    measured(found, "recon status --json", opened.status)
    measured(found, "recon status WINDOW", lambda: opened.status(name_of(START)))
    built = measured(found, "loading the definitions", lambda: loaded(config))
    with dg.DagsterInstance.ephemeral() as instance:
        for stage in ("reduce", "merge", "index", "certify"):
            cursor = measured(found, f"first tick of the {stage} sensor", lambda: tick(built, config, stage, instance, None))  # noqa: B023
            measured(found, f"a tick of the {stage} sensor", lambda: tick(built, config, stage, instance, cursor))  # noqa: B023
    measured(found, "windows_tie over all windows", lambda: checked(store, config))
    return found


def sizes(root: Path) -> dict[str, int]:
    files = [file for file in (root / layout.checkpoints()).rglob("*") if file.is_file()]
    return {"checkpoints": sum(file.stat().st_size for file in files), "largest checkpoint": max(file.stat().st_size for file in files)}


def main() -> None:
    given = options(__doc__, windows=100_000, commits=2_000)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "recon.yaml").write_text(CONFIG)
        opened = recon.open(Path(folder) / "recon.yaml")
        opened.store(create=True)
        print(f"  a store of {given.windows:,} windows in {given.commits:,} commits", flush=True)
        start = time.perf_counter()
        make_store(Path(folder) / "data", opened.config, given.windows, given.commits)
        print(f"    written in {time.perf_counter() - start:.0f} s", flush=True)
        figures = measure(opened)
        bytes_of = sizes(Path(folder) / "data")
    print("  " + ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in bytes_of.items()))
    machine = {"processor": platform.machine(), "python": platform.python_version(), "dagster": dg.__version__}
    result = {"machine": machine, "windows": given.windows, "commits": given.commits, "seconds": figures, "bytes": bytes_of}
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
