"""Verifies certificates: numbered without gaps, tying, and each equal to the figures of the commit that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.errors import Damaged
from recon.model.conflicts import certified
from recon.model.totals import Totals
from recon.model.windows import name_of, parse_instant
from recon.state import reduced
from recon.state.certificates import ties
from recon.storage import layout
from recon.storage.documents import RESTORE
from recon.storage.numbered import number_of
from recon.storage.port import NotFound, ObjectStore
from recon.verification.chain import Chain
from recon.verification.findings import UNREADABLE, Findings, text_of
from recon.verification.timeline import History

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = re.compile(r"\d{4}-\d\d-\d\dT\d{4}Z\Z")
_FILE = re.compile(r"\d{6,}\.json\Z")
_ELSEWHERE = {"window", "number", "ties", "previous", "files"}
"""Members of a certificate that have checks of their own."""


def check_certificates(
    store: ObjectStore, config: Config, history: History, findings: Findings, progress: Callable[[str, float], None]
) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """Checks every certificate, and that every committed window has one. Returns the number of certificates, and window → its newest
    certificate, for committed windows where that is sound."""
    check = _Check(store, config, history, findings)
    found: dict[str, list[str]] = {name: [] for name in history.windows}
    for path in store.list(layout.CERTIFICATES):
        folder, _, file = path.removeprefix(layout.CERTIFICATES).partition("/")
        if _WINDOW.match(folder) and _FILE.match(file):
            found.setdefault(layout.window_name(folder), []).append(path)
        else:
            findings.add(f"{path}: is no certificate: its name is not that of a window and a number; remove it")
    newest: dict[str, Mapping[str, Any]] = {}
    for done, (name, paths) in enumerate(sorted(found.items())):
        progress(name, done / len(found))
        committed = history.windows.get(name)
        if committed is not None and not paths:
            folder = layout.certificates(parse_instant(name, "window"))
            findings.add(f"{folder}: window {name} has no certificate of commit {committed['commit']}; 'recon run' makes it")
        last = check.window(name, paths)
        if last is None or committed is None:
            continue
        newest[name] = last
        if last["commit"] < committed["commit"]:
            missing = layout.certificate(parse_instant(name, "window"), last["number"] + 1)
            findings.add(
                f"{missing}: window {name}: there is no certificate of commit "
                f"{committed['commit']}, which changed the window since certificate {last['number']}; 'recon run' makes it"
            )
    return sum(map(len, found.values())), newest


@dataclass(frozen=True)
class _Check:
    store: ObjectStore
    config: Config
    history: History
    findings: Findings

    def window(self, name: str, paths: Sequence[str]) -> Mapping[str, Any] | None:
        """Checks the certificates of one window. Returns the newest if it is sound."""
        sound: Mapping[str, Any] | None = None
        window, earlier, last = parse_instant(name, "window"), 0, number_of(max(paths, default=""))
        chain = Chain(self.findings, self.history.linked, f": window {name}")
        for number in range(1, last + 1):
            sound, path = None, layout.certificate(window, number)
            try:
                if path not in paths:
                    raise Damaged(f"gone though number {last} exists")
                raw = self.store.get(path)
                certificate = json.loads(raw)
                wrong = self._wrong(certificate, name, number, earlier)
                earlier = certificate["commit"]
            except UNREADABLE as error:
                chain.skip()
                self.findings.add(f"{path}: window {name}: the certificate cannot be read ({text_of(error)}); {RESTORE}")
                continue
            chain.add(path, raw, certificate.get("previous"), has_seal=False)
            if wrong:
                self.findings.add(f"{path}: window {name}: the certificate is wrong ({'; '.join(wrong)}); {RESTORE}")
            else:
                sound = certificate
        return sound

    def _wrong(self, certificate: Mapping[str, Any], name: str, number: int, earlier: int) -> list[str]:
        """The statements of a certificate that are wrong. ``earlier``: the commit that the certificate before it names. Raises one of
        UNREADABLE if a field is missing."""
        wrong, history = [*ties(certificate)], self.history
        if certificate["ties"] is not (not wrong):
            wrong.append(f"ties {certificate['ties']}")
        if certificate["window"] != name or certificate["number"] != number:
            wrong.append(f"it says window {certificate['window']}, number {certificate['number']}")
        commit = certificate["commit"]
        if commit <= earlier:
            wrong.append(f"it names commit {commit}, the one before it {earlier}")
        if commit > history.state.commit and history.complete:
            newest = f"the newest one is {history.state.commit}: the timeline has lost its newest entries"
            return [*wrong, f"it names commit {commit}, and {newest}"]
        committed = history.changes.get(name, {}).get(commit)
        if committed is None:
            # The figures of a lost entry are unknown.
            return wrong + ([f"commit {commit} did not change this window"] if history.complete else [])
        expected = as_certified(committed)
        if "conflicts" not in committed:  # earlier versions stated neither
            expected = {field: value for field, value in expected.items() if field not in ("conflicts", "unreadable", "unusual")}
        if history.linked or "entry" in certificate:
            expected |= self._as_linked(name, committed)
            wrong += [f"it says {field}, which no certificate says" for field in sorted({*certificate} - {*expected, *_ELSEWHERE})]
        differing = [field for field in expected if certificate[field] != expected[field]]
        return wrong + [f"{field} {_short(certificate[field])}, by commit {commit} {_short(expected[field])}" for field in differing]

    def _as_linked(self, name: str, committed: Mapping[str, Any]) -> dict[str, Any]:
        """The other statements of a certificate that follow from its commit, in stores where it names the commit's entry."""
        until = self.config.grid.after(parse_instant(name, "window"))
        stated = {"reconciliation": self.config.name, "until": name_of(until)}
        stated |= {field: committed[field] for field in ("entry", "rules", "time")}
        try:
            return {**stated, "files": reduced.read(self.store, committed["folder"]).files}
        except NotFound:
            return stated  # beyond retention.history, or reported by the check of the stateless files


def as_certified(committed: Mapping[str, Any]) -> dict[str, Any]:
    """A window's committed figures in the form of a certificate."""
    duplicates = Totals.from_json(committed["duplicates"]) + Totals.from_json(committed["suppressed"])
    return {
        "revision": committed["revision"],
        "state": "CLOSED" if committed["closed"] else "OPEN",
        **(
            {"expected_files": committed["expected"], "received_files": committed["received"], "short": committed["short"]}
            if "short" in committed
            else {}
        ),
        "in": committed["arrived"],
        "accepted": committed["counted"],
        "duplicates": duplicates.to_json(),
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
        "conflicts": certified(committed),
        "unusual": committed.get("unusual", {}),
        "keys": committed["keys"],
        "measures": {name: total for name, total in committed["measures"].items() if name not in committed.get("amounts", ())},
        "commit": committed["commit"],
        "changed_by": {"cause": committed["cause"], "reason": committed["reason"]},
    }


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
