"""Certify: one numbered certificate per window and change, from the figures that the timeline committed.

    rows in = accepted + duplicates + rejected, and the same for money, per currency

Only windows whose newest commit has no certificate get one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recon.config import Config
from recon.errors import Damaged
from recon.metering import prices
from recon.model import conflicts
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.stages.ready import committed_windows
from recon.stages.work import WindowResult, Windows, Work, range_name
from recon.state import reduced
from recon.state.certificates import certificate_of, read_certificate, ties
from recon.state.committed import committed_figures
from recon.state.timeline import State
from recon.storage import documents, layout, numbered
from recon.storage.port import ObjectStore
from recon.storage.sealing import digest_of


@dataclass(frozen=True)
class Certified:
    """The newest certificate of a window. ``committed``: its committed figures, None for a window outside the range."""

    certificate: Mapping[str, Any]
    committed: Mapping[str, Any] | None


def certify(work: Work, windows: Windows) -> Iterator[WindowResult[Certified]]:
    """Yields the newest certificate of each window, and the new ones of windows outside the range that its commits have recounted.

    Raises Damaged where a certificate was deleted from the store."""
    committed = committed_windows(work, windows)
    state = work.head()
    commits = {figures["commit"] for figures in committed.values()}
    recounted = sorted(name for name, found in state.windows.items() if found.commit in commits and name not in committed)
    work.progress("certify", range_name(windows), 0)
    with work.report.timed("certify", work.store) as spent:
        made = certify_windows(work.store, work.config, state, [*committed, *recounted])
    work.report.certificates += len(made)
    newly = {certificate["window"] for certificate in made}
    for name in [*committed, *(name for name in recounted if name in newly)]:
        certificate = read_certificate(work.store, work.config.grid.parse(name))
        if certificate is None:
            raise Damaged(f"window {name}: its certificate is gone from the store; restore it from a copy of the store")
        yield WindowResult(name, Certified(certificate, committed.get(name)), prices.figures(spent.usage, work.config.prices))


def certify_windows(
    store: ObjectStore,
    config: Config,
    state: State,
    windows: Iterable[str],
    progress: Callable[[int], None] = lambda windows: None,
) -> list[dict[str, Any]]:
    """Certifies each window (by name) whose newest certificate is older than the commit that last changed it. Returns the new certificates.

    Certificates are numbered and never overwritten; a second call adds nothing."""
    made = []
    for name, committed in committed_figures(store, state, windows).items():
        newest = read_certificate(store, config.grid.parse(name))
        if newest is None or newest["commit"] < committed["commit"]:
            made += _put(store, config, name, committed)
        progress(1)
    return made


def _put(store: ObjectStore, config: Config, name: str, committed: Mapping[str, Any]) -> list[dict[str, Any]]:
    window = config.grid.parse(name)

    def put() -> list[dict[str, Any]]:
        path = numbered.newest(store, layout.certificates(window))
        newest = store.get(path) if path else b""
        if newest and certificate_of(path, newest)["commit"] >= committed["commit"]:
            return []  # another process has certified the same commit
        number = numbered.number_of(path) + 1  # by its name, as an earlier certificate may be lost
        certificate = _certificate(store, config, name, committed, number, digest_of(newest) if newest else "")
        documents.put(store, layout.certificate(window, number), certificate, **documents.INDENTED)
        return [certificate]

    return numbered.put_next(put)


def _certificate(store: ObjectStore, config: Config, name: str, committed: Mapping[str, Any], number: int, previous: str) -> dict[str, Any]:
    """Depends on the commit and the previous certificate alone, so that every process makes the same bytes."""
    within, earlier = Totals.from_json(committed["duplicates"]), Totals.from_json(committed["suppressed"])
    certificate = {
        "reconciliation": config.name,
        "window": name,
        "until": name_of(config.grid.after(config.grid.parse(name))),
        "revision": committed["revision"],
        "number": number,
        "state": "CLOSED" if committed["closed"] else "OPEN",
        **completeness_of(committed),
        "files": reduced.read(store, committed["folder"]).files,
        "in": committed["arrived"],
        "accepted": committed["counted"],
        "duplicates": (within + earlier).to_json(),
        "rejected": committed["rejected"],
        "stages": {
            "reduce": {
                "in": committed["arrived"],
                "accepted": committed["accepted"],
                "duplicates": committed["duplicates"],
                "conflicting": committed["conflicting"],
                "rejected": committed["rejected"],
                "unreadable": committed["unreadable"],
                **({"without_amount": committed["without_amount"]} if "without_amount" in committed else {}),
            },
            "merge": {"in": committed["accepted"], "counted": committed["counted"], "duplicates": committed["suppressed"]},
        },
        "unreadable": committed["unreadable"],
        "conflicts": conflicts.certified(committed),
        "unusual": committed.get("unusual", {}),
        "keys": committed["keys"],
        "measures": measures_of(committed),
        "commit": committed["commit"],
        "entry": committed["entry"],
        "rules": committed["rules"],
        "changed_by": {"cause": committed["cause"], "reason": committed["reason"]},
        "time": committed["time"],
        "previous": previous,
    }
    certificate["ties"] = not ties(certificate)
    return certificate


def completeness_of(committed: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of files in a window's certificate: ``expected_files`` when it was closed (None: any number), ``received_files``,
    and whether it is ``short``. Empty for a window that was committed by a version that did not count files."""
    if "short" not in committed:
        return {}
    return {"expected_files": committed["expected"], "received_files": committed["received"], "short": committed["short"]}


def measures_of(committed: Mapping[str, Any]) -> dict[str, Any]:
    """The totals of a window's measures in its certificate. Where events have a currency, totals of amounts are left out: they would add
    several currencies."""
    return {name: total for name, total in committed["measures"].items() if name not in committed.get("amounts", ())}
