"""Status: the stage of every window, the backlog, and whether a window ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from recon.config import Config
from recon.intake import landing_log
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.planning.closing import processed, why_not
from recon.planning.due import due
from recon.reading.caveats import caveats, without_window
from recon.reading.completeness import completeness
from recon.reading.not_landed import not_landed_in
from recon.state import amplification
from recon.state.amplification import StoredBytes
from recon.state.certificates import lag, read_certificates
from recon.state.committed import committed_figures
from recon.state.live import orphaned_bytes
from recon.state.timeline import Mark, State
from recon.storage.port import ObjectStore


def status(store: ObjectStore, config: Config, state: State, figures_of: int | None = None) -> dict[str, Any]:
    """The reconciliation: commit, watermark, backlog, artifacts by status, and one line per landed window.

    ``figures_of``: number of newest windows whose lines have rows and keys, which cost more to read; None for all."""
    landed = _landed(store, config, state)
    waiting = due(store, config, state, windows=[name for name, revision in landed.items() if revision > state.revision(name)])
    ready = {manifest.window for manifest in waiting.ready}
    behind = lag(config, state, datetime.now(UTC))
    found = caveats(store, config, state, waiting)
    newest = list(landed) if figures_of is None else list(landed)[-figures_of:]
    figures = committed_figures(store, state, newest)
    return {
        "name": config.name,
        "commit": state.commit,
        "rules": state.rules or config.rules_version,
        "watermark": state.watermark or None,
        "lag_s": None if behind is None else int(behind.total_seconds()),
        "rules_now": config.rules_version,
        "backlog": sorted(ready),
        "open": list(waiting.open),
        "short": sorted(name for name, window in state.windows.items() if window.has(Mark.SHORT)),
        "ok": not any(caveat.wrong for caveat in found),
        "caveats": [asdict(caveat) for caveat in found],
        "artifacts": state.totals.get("statuses", {}),
        "bytes": _bytes(store, state),
        "bounds": amplification.figures(config, state.totals),
        "windows": [_line(state, name, revision, ready, waiting.open, figures.get(name)) for name, revision in landed.items()],
    }


def _bytes(store: ObjectStore, state: State) -> dict[str, int]:
    """Bytes of part-files: ``live``, and ``superseded`` by newer records until a compaction deletes them. ``orphaned``: bytes of objects
    that no look-up needs, or that a killed run left, until they are swept."""
    stored = StoredBytes.of(state.totals)
    return {"live": stored.live, "superseded": stored.parts - stored.live, "orphaned": orphaned_bytes(store, state)}


def _landed(store: ObjectStore, config: Config, state: State) -> dict[str, int]:
    """Window → its newest revision, for all windows with landings. Reads the manifests of windows that wait: a note may be ahead of it."""
    landed = {}
    for name, noted in landing_log.since(store)[0].items():
        if noted <= state.revision(name):
            landed[name] = state.revision(name)
        elif (manifest := read_manifest(store, config.grid.parse(name))) is not None:
            landed[name] = manifest.revision
    return landed


def _line(
    state: State, name: str, revision: int, ready: set[str], still_open: tuple[str, ...], figures: Mapping[str, Any] | None
) -> dict[str, Any]:
    # A window may be processed before it is closed: done, but open.
    committed = state.windows.get(name)
    finished = "open" if committed is None or not committed.closed else "SHORT" if committed.has(Mark.SHORT) else "done"
    stage = "open" if name in still_open else "ready" if name in ready else finished
    line: dict[str, Any] = {
        "window": name,
        "landed": revision,
        "committed": state.revision(name),
        "stage": stage,
        "short": committed is not None and committed.has(Mark.SHORT),
    }
    if figures is not None:
        line |= {
            "rows": figures["arrived"]["rows"],
            "accepted": figures["counted"]["rows"],
            "duplicates": figures["duplicates"]["rows"] + figures["suppressed"]["rows"],
            "rejected": figures["rejected"]["rows"],
            "keys": figures["keys"],
        }
    return line


def window_status(store: ObjectStore, config: Config, state: State, window: datetime) -> dict[str, Any]:
    """One window: whether it closed, whether it ties, its files, revisions, stage and certificates, its completeness, and the
    received files that are not in it."""
    manifest = read_manifest(store, window)
    certificates = read_certificates(store, window)
    name = name_of(window)
    committed = state.revision(name)
    if manifest is None:
        stage = "nothing landed"
    elif committed >= manifest.revision:
        stage = "open" if not manifest.closed else "SHORT" if manifest.short else "done"
    else:
        stage = "ready" if processed(config, state, manifest) else "open"
    return {
        "window": name,
        "until": name_of(config.grid.after(window)),
        "stage": stage,
        "why": why_not(store, config, state, window, datetime.now(UTC)),
        "watermark": state.watermark or None,
        "rules_changed": state.rules not in ("", config.rules_version),
        "ties": certificates[-1]["ties"] if certificates else None,
        **completeness(store, config, state, window, manifest),
        "not_landed": not_landed_in(store, config, window).to_json(),
        "closed": manifest is not None and manifest.closed,
        "short": manifest is not None and manifest.short,
        "landed_revision": manifest.revision if manifest else 0,
        "committed_revision": committed,
        "files": [{"name": f.name, "bytes": f.bytes, "digest": f.digest} for f in (manifest.files if manifest else ())],
        "last_change": None
        if manifest is None
        else {"cause": manifest.cause, "reason": manifest.reason, "by": manifest.by, "time": manifest.time},
        "certificate": certificates[-1] if certificates else None,
        "certificates": len(certificates),
    }


def wrong_in(answer: Mapping[str, Any]) -> list[str]:
    """What a person has to act on in a window, a sentence each; ``answer``: what ``window_status`` returned. Empty: the window is right,
    or it waits for nothing but time, its files or the next run."""
    arrived, rejected, window = answer["received"]["rows"], answer["rejected"]["rows"], answer["window"]
    wrong = []
    if answer["short"]:
        wrong.append(f"SHORT: it was closed with {answer['received']['files']} of {answer['expected']['files']} expected files")
    if answer["quarantined"] is not None:
        wrong.append(f"it could not be processed: {without_window(answer['quarantined']['reason'], window)}")
    if answer["rules_changed"]:
        wrong.append("the rules changed: nothing is processed until 'recon rebuild'")
    if answer["ties"] is False:
        wrong.append("its certificate does not tie")
    if arrived and arrived == rejected:
        wrong.append(f"every row was rejected; 'recon rejects {window}' says why")
    if answer["closed"] and (missing := answer["not_landed"]["missing"]):
        files = "1 expected file" if len(missing) == 1 else f"{len(missing):,} expected files"
        wrong.append(f"it was closed without {files}: {', '.join(missing)}")
    return [*wrong, *answer["not_landed"]["wrong"]]
