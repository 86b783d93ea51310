"""Verifying certificates: numbered without gaps, tying, and each as the timeline has the commit that it names.

Belongs here: certificates against themselves and the timeline. Does not belong here: recounting what they
say (verification_full).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recon import layout
from recon.certify import ties
from recon.config import Config
from recon.conflicts import certified
from recon.errors import Damaged
from recon.store import ObjectStore
from recon.totals import Totals
from recon.verification_findings import UNREADABLE, Findings, said
from recon.verification_timeline import History

if TYPE_CHECKING:
    from collections.abc import Callable

_COPY = "restore it from a copy of the store"


def check_certificates(
    store: ObjectStore, config: Config, history: History, findings: Findings, progress: Callable[[str, float], None]
) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """Checks every certificate of every committed window. Returns how many there are, and the newest per window if
    sound."""
    total = 0
    newest: dict[str, Mapping[str, Any]] = {}
    windows = list(history.windows.items())
    for done, (name, held) in enumerate(windows):
        progress(name, done / len(windows))
        window = config.grid.parse(name)
        paths = list(store.list(layout.certificates(window)))
        total += len(paths)
        if not paths:
            findings.add(
                f"{layout.certificates(window)}: window {name} has no certificate of commit {held['commit']}; 'recon run' makes it"
            )
        earlier = 0
        for number in range(1, _last(paths) + 1):
            path = layout.certificate(window, number)
            try:
                if path not in paths:
                    raise Damaged(f"gone though number {_last(paths)} stands")
                certificate = json.loads(store.get(path))
                wrong = _wrong(certificate, name, number, earlier, history)
                earlier = certificate["commit"]
            except UNREADABLE as error:
                findings.add(f"{path}: window {name}: the certificate cannot be read ({said(error)}); {_COPY}")
                continue
            if wrong:
                findings.add(f"{path}: window {name}: the certificate is wrong ({'; '.join(wrong)}); {_COPY}")
            elif path == paths[-1]:
                newest[name] = certificate
        if name in newest and newest[name]["commit"] != held["commit"]:
            findings.add(
                f"{paths[-1]}: window {name}: its newest certificate names commit {newest[name]['commit']}, "
                f"commit {held['commit']} changed the window since; 'recon run' makes the missing one"
            )
    return total, newest


def _last(paths: list[str]) -> int:
    return int(paths[-1].rpartition("/")[2].removesuffix(".json")) if paths else 0


def _wrong(certificate: Mapping[str, Any], name: str, number: int, earlier: int, history: History) -> list[str]:
    """What a certificate says that is not so. Raises one of UNREADABLE where it lacks a field."""
    wrong = [*ties(certificate)]
    if certificate["ties"] is not (not wrong):
        wrong.append(f"ties {certificate['ties']}")
    if certificate["window"] != name or certificate["number"] != number:
        wrong.append(f"it says window {certificate['window']}, number {certificate['number']}")
    if certificate["commit"] <= earlier:
        wrong.append(f"it names commit {certificate['commit']}, the one before it {earlier}")
    held = history.changes.get(name, {}).get(certificate["commit"])
    if held is None:
        # Where entries are lost, what they said cannot be asked any more.
        return wrong + ([f"commit {certificate['commit']} did not change this window"] if history.whole else [])
    expected = as_certified(held)
    if "conflicts" not in certificate and "conflicts" not in held:
        del expected["conflicts"]  # which earlier versions did not name
    differing = [field for field in expected if certificate[field] != expected[field]]
    return wrong + [
        f"{field} {_short(certificate[field])}, by commit {certificate['commit']} {_short(expected[field])}" for field in differing
    ]


def as_certified(held: Mapping[str, Any]) -> dict[str, Any]:
    """A window's figures in the timeline as its certificate states them."""
    duplicates = Totals.from_json(held["duplicates"]) + Totals.from_json(held["suppressed"])
    return {
        "revision": held["revision"],
        "state": "CLOSED" if held["closed"] else "OPEN",
        **({"expected_files": held["expected"], "received_files": held["received"], "short": held["short"]} if "short" in held else {}),
        "in": held["arrived"],
        "accepted": held["counted"],
        "duplicates": duplicates.to_json(),
        "rejected": held["rejected"],
        "stages": {
            "reduce": {
                "in": held["arrived"],
                "accepted": held["accepted"],
                "duplicates": held["duplicates"],
                "conflicting": held["conflicting"],
                "rejected": held["rejected"],
                "unreadable": held["unreadable"],
            },
            "merge": {"in": held["accepted"], "counted": held["counted"], "duplicates": held["suppressed"]},
        },
        "conflicts": certified(held),
        "keys": held["keys"],
        "measures": held["measures"],
        "commit": held["commit"],
        "changed_by": {"cause": held["cause"], "reason": held["reason"]},
    }


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
