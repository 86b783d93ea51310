"""`recon verify` finds what somebody does to a store: each tampering is one line that names the object."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import recon
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.storage.sealing import SEAL, digest_of, sealed

CONFIG = """
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}, id: event_id}
measures: {billed: {sum: amount}, lines: {count: "*"}}
status: [{LARGE: "billed > 50"}, {SMALL: "true"}]
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""
HEADER = "order_id,event_id,amount,currency\n"
W = [f"2026-11-01T0{hour}:00Z" for hour in range(6)]


def folder(window: str) -> str:
    return window.replace(":", "")


def land(r: Reconciliation, hour: int, name: str, text: str, replace: str | None = None) -> None:
    file = r.config.path.parent / name
    file.write_text(HEADER + text)
    r.land([file], W[hour], close=True, replace=replace, again=True)


def make(place: Path, compacted: bool) -> None:
    """Seven commits: three merges (the third a correction), a rebuild by new rules, a merge of a window that was landed in twice and from
    which a file was taken back, a replay; ``compacted``: an eighth. Window 5 has landed and is not committed."""
    place.mkdir()
    (place / "recon.yaml").write_text(CONFIG)
    r = recon.open(place / "recon.yaml")
    land(r, 0, "zero.csv", "A,1,10,EUR\nB,2,20,EUR\n")
    land(r, 1, "one.csv", "A,3,30,EUR\nC,4,40,USD\n")
    r.run()
    land(r, 2, "two.csv", "B,5,50,EUR\n")
    r.run()
    land(r, 1, "one-right.csv", "A,3,35,EUR\nC,4,40,USD\n", "one.csv")
    r.run()
    (place / "recon.yaml").write_text(CONFIG.replace("billed > 50", "billed > 60"))
    r = recon.open(place / "recon.yaml")
    r.rebuild()
    land(r, 3, "three.csv", "D,6,60,EUR\n")
    land(r, 3, "wrong.csv", "D,7,70,EUR\n")
    r.unland("wrong.csv", W[3], "sent by mistake")
    r.run()
    r.replay(W[2], reason="to be sure")
    r.run()
    if compacted:
        r.compact(always=True)
    land(r, 5, "five.csv", "E,8,80,EUR\n")
    assert r.verify(full=True).problems == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made") / "site"
    make(place, compacted=False)
    return place


@dataclass
class Site:
    """A copy of the store, for one tampering."""

    r: Reconciliation
    data: Path

    def path(self, pattern: str, which: int = -1) -> Path:
        return sorted(self.data.glob(pattern))[which]

    def entry(self, which: int = -1) -> Path:
        return self.path("timeline/*.json", which)

    def kind(self, kind: str, which: int = -1) -> Path:
        """An entry of a kind."""
        return [path for path in sorted(self.data.glob("timeline/*.json")) if json.loads(path.read_text())["kind"] == kind][which]

    def certificate(self, hour: int, which: int = -1) -> Path:
        return self.path(f"certificates/{folder(W[hour])}/*.json", which)

    def manifest(self, hour: int, which: int = -1) -> Path:
        return self.path(f"events/{folder(W[hour])}/manifests/*.json", which)

    def reduction(self, hour: int, which: int = -1) -> Path:
        """A folder of the stateless files of a window, in order of the commits that name them."""
        named = []
        for path in [*sorted(self.data.glob("generations/*/timeline/*.json")), *sorted(self.data.glob("timeline/*.json"))]:
            entry = json.loads(path.read_text())
            if W[hour] in entry["windows"]:
                named.append((entry["time"], self.data / entry["windows"][W[hour]]["folder"]))
        return sorted(named)[which][1]

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.data))


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    shutil.copytree(made, tmp_path / "site")
    return Site(recon.open(tmp_path / "site" / "recon.yaml"), tmp_path / "site" / "data")


def edit(path: Path, change: Callable[[Any], object], reseal: bool = False) -> None:
    """Edits an object by hand; ``reseal``: and gives it the seal that fits."""
    body = json.loads(path.read_text())
    change(body)
    if reseal:
        body.pop(SEAL)
        path.write_bytes(sealed(body, indent=None if "timeline" in path.parts else 1))
    else:
        path.write_text(json.dumps(body, indent=None if "timeline" in path.parts else 1))


def put(**members: object) -> Callable[[Any], object]:
    return lambda body: body.update(members)


def window_put(**members: object) -> Callable[[Any], object]:
    """Edits the figures of all windows of an entry."""
    return lambda body: [figures.update(members) for figures in body["windows"].values()]


def edited(path: Path, change: Callable[[Any], object], reseal: bool = False) -> Path:
    edit(path, change, reseal)
    return path


def gone(path: Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return path


def swapped(one: Path, other: Path) -> Path:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return one


def forged_entry(site: Site, linked: bool) -> Path:
    """One more entry, by hand: sealed, and linked to another one than the newest."""
    newest = site.entry()
    body = json.loads(newest.read_text())
    body.pop(SEAL)
    number = body["number"] + 1
    body |= {"number": number, "writer": "somebody", "windows": {}, "runs_added": [], "time": "2026-12-24T00:00:00.000000+00:00"}
    body |= {"previous": digest_of(site.entry(-2).read_bytes())} if linked else {}
    if not linked:
        body.pop("previous")
    path = newest.with_name(f"{number:012}.json")
    path.write_bytes(sealed(body))
    return path


def forged_certificate(site: Site, hour: int, of: int, **members: object) -> Path:
    """One more certificate of a window, after the newest of window ``of``, linked to the one before it."""
    path = site.data / "certificates" / folder(W[hour])
    path.mkdir(exist_ok=True)
    earlier = sorted(path.glob("*.json"))
    body = json.loads(site.certificate(of).read_text()) | {"window": W[hour], "number": len(earlier) + 1}
    body |= {"previous": digest_of(earlier[-1].read_bytes()) if earlier else "", **members}
    new = path / f"{len(earlier) + 1:06}.json"
    new.write_text(json.dumps(body, indent=1))
    return new


def after_newest_is_gone(site: Site) -> Path:
    gone(site.entry())
    return site.certificate(2)


def newest_and_its_certificate(site: Site) -> Path:
    gone(site.entry())
    gone(site.certificate(2))
    return site.path("frontiers/certified/*.json")


def flipped(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    return path


def created(site: Site, name: str) -> Path:
    path = site.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


OLD_TIME = "2026-01-01T00:00:00.000000+00:00"
COPIED = {"cause": "replay", "reason": "because"}
REASON = {"reason": "nothing happened"}
CHANGED_BY = {"changed_by": {"cause": "land", "reason": ""}}
FILES = {"files": [{"name": "other.csv", "digest": "0" * 64, "bytes": 1, "rows": 1, "rejected": 0}]}
SWAPPED_ROWS = {"rows": 7}

TAMPERINGS: dict[str, Callable[[Site], Path | str]] = {
    # Entries that are removed, exchanged or added
    "the newest entry is removed": after_newest_is_gone,
    "the newest entry and its certificate are removed": newest_and_its_certificate,
    "the first entry is removed": lambda s: gone(s.entry(0)),
    "an entry in the middle is removed": lambda s: gone(s.entry(2)),
    "two entries are exchanged": lambda s: swapped(s.entry(1), s.entry(2)),
    "the timeline is removed": lambda s: (gone(s.data / "timeline"), s.certificate(0))[1],
    "an entry without a link is added": lambda s: forged_entry(s, linked=False),
    "an entry with a wrong link is added": lambda s: forged_entry(s, linked=True),
    # Entries that are edited
    "the time of the newest entry": lambda s: edited(s.entry(), put(time="2026-12-24T00:00:00.000000+00:00")),
    "the time of an entry": lambda s: edited(s.entry(1), put(time=OLD_TIME)),
    "the time of an entry, sealed anew": lambda s: edited(s.entry(1), put(time=OLD_TIME), reseal=True),
    "the maker of an entry": lambda s: edited(s.entry(2), put(writer="0" * 16)),
    "the maker of an entry, sealed anew": lambda s: edited(s.entry(2), put(writer="0" * 16), reseal=True),
    "the maker of the newest entry": lambda s: edited(s.entry(), put(writer="0" * 16)),
    "the reason of a window": lambda s: edited(s.entry(), window_put(**REASON)),
    "the cause of a window, sealed anew": lambda s: edited(s.entry(2), window_put(cause="land"), reseal=True),
    "the kind of an entry": lambda s: edited(s.entry(1), put(kind="tiers")),
    "the rules of an entry, sealed anew": lambda s: edited(s.entry(1), put(rules="0" * 16), reseal=True),
    "the counts of the statuses": lambda s: edited(s.entry(1), put(totals={"statuses": {"SMALL": 3}})),
    "what an entry swept": lambda s: edited(s.entry(2), put(swept=[s.name(s.reduction(0, 0)) + "/"]), reseal=True),
    "the link of an entry is cut": lambda s: edited(s.entry(3), lambda body: body.pop("previous"), reseal=True),
    "the link of the newest entry is cut": lambda s: edited(s.entry(), lambda body: body.pop("previous"), reseal=True),
    "the seal of an entry is cut": lambda s: edited(s.entry(3), lambda body: body.pop(SEAL)),
    # The timeline of a rebuild
    "the generation that an entry switches to": lambda s: edited(s.kind("rebuild"), put(generation=["0" * 16, 1]), reseal=True),
    "an entry of a rebuild is removed": lambda s: gone(s.path("generations/*/timeline/*.json")),
    "an entry of a rebuild, sealed anew": lambda s: edited(s.path("generations/*/timeline/*.json"), put(time=OLD_TIME), reseal=True),
    "the timeline of a rebuild is removed": lambda s: gone(s.path("generations/*/timeline/*.json").parent),
    # Certificates
    "the time of the newest certificate": lambda s: edited(s.certificate(2), put(time=OLD_TIME)),
    "the time of an earlier certificate": lambda s: edited(s.certificate(1, 0), put(time=OLD_TIME)),
    "the files of the newest certificate": lambda s: edited(s.certificate(2), put(**FILES)),
    "the rows of a file of a certificate": lambda s: edited(s.certificate(2), lambda body: body["files"][0].update(rows=2)),
    "the rules of a certificate": lambda s: edited(s.certificate(2), put(rules="0" * 16)),
    "what changed a certificate": lambda s: edited(s.certificate(3), put(**CHANGED_BY)),
    "the reconciliation of a certificate": lambda s: edited(s.certificate(0), put(reconciliation="others")),
    "the end of a certificate's window": lambda s: edited(s.certificate(0), put(until=W[4])),
    "a remark in a certificate": lambda s: edited(s.certificate(0), put(approved="yes")),
    "the entry that a certificate names": lambda s: edited(s.certificate(0), put(entry="0" * 64)),
    "the certificate that a certificate names": lambda s: edited(s.certificate(1), put(previous="0" * 64)),
    "the certificate before is edited alone": lambda s: edited(s.certificate(1, 0), lambda body: body["files"][0].update(rows=1)),
    "the newest certificate is removed": lambda s: gone(s.certificate(2)),
    "an earlier certificate is removed": lambda s: gone(s.certificate(2, 0)),
    "all certificates of a window are removed": lambda s: gone(s.certificate(2).parent),
    "a certificate of a commit to come": lambda s: forged_certificate(s, 3, 3, commit=99),
    "a second certificate of a commit": lambda s: forged_certificate(s, 3, 3),
    "a certificate of a commit that did not change the window": lambda s: forged_certificate(s, 0, 2),
    "a certificate of a window without a commit": lambda s: forged_certificate(s, 5, 2),
    "a certificate of a window in which nothing landed": lambda s: forged_certificate(s, 4, 2),
    # Landings
    "the events of a committed window are removed": lambda s: gone(s.data / "events" / folder(W[0])),
    "the newest manifest of a committed window is removed": lambda s: gone(s.manifest(2)),
    "an earlier manifest that was committed is removed": lambda s: gone(s.manifest(1, 0)),
    "a manifest that was never committed is removed": lambda s: gone(s.manifest(3, 1)),
    "the maker of a manifest": lambda s: edited(s.manifest(2), put(by="somebody")),
    "the reason of a manifest, sealed anew": lambda s: edited(s.manifest(2), put(**REASON), reseal=True),
    "the time of an earlier manifest, sealed anew": lambda s: edited(s.manifest(3, 0), put(time=OLD_TIME), reseal=True),
    "a manifest that waits": lambda s: edited(s.manifest(5), put(by="somebody")),
    "a landed file is removed": lambda s: gone(s.path(f"events/{folder(W[3])}/files/*/wrong.csv")),
    "a landed file": lambda s: flipped(s.path(f"events/{folder(W[3])}/files/*/three.csv")),
    "the notes of a landing are removed": lambda s: [gone(note) for note in s.data.glob(f"landings/*/*/*{folder(W[5])}*")] and W[5],
    # Reductions
    "the reduction of a window is removed": lambda s: gone(s.reduction(0)),
    "the reduction of an earlier commit is removed": lambda s: gone(s.reduction(1, 0)),
    "the rows of an earlier commit": lambda s: flipped(s.reduction(1, 0) / "artifacts.parquet"),
    "the figures of an earlier commit": lambda s: edited(s.reduction(1, 0) / "figures.json", put(**REASON)),
    "the reason in the figures": lambda s: edited(s.reduction(0) / "figures.json", put(**REASON)),
    "the digests in the figures": lambda s: edited(s.reduction(0) / "figures.json", lambda body: body["digests"].clear()),
    # Rules
    "the rules of earlier commits are removed": lambda s: gone(old_rules(s)),
    "the rules of now are removed": lambda s: gone(s.data / f"rules/{s.r.config.rules_version}.json"),
    "earlier rules": lambda s: edited(old_rules(s), lambda body: body["configuration"].update(status=[{"ALL": "true"}])),
    "earlier rules, sealed anew": lambda s: edited(
        old_rules(s), lambda body: body["configuration"].update(status=[{"ALL": "true"}]), reseal=True
    ),
    "what gives the rules no meaning": lambda s: edited(old_rules(s), lambda body: body["configuration"].update(memory_limit="1GB")),
    # Artifacts, and what speaks of commits
    "a run is removed": lambda s: gone(s.data / s.r.state().runs[0].path),
    "a part-file": lambda s: flipped(s.data / (s.r.state().runs[0].path.rpartition("/")[0] + "/part-0000.words")),
    "a note of the index of a commit to come": lambda s: created(s, f"indexed/{folder(W[0])}/000000000099"),
}


def old_rules(site: Site) -> Path:
    return next(path for path in site.data.glob("rules/*.json") if path.stem != site.r.config.rules_version)


@pytest.mark.parametrize("what", TAMPERINGS)
def test_verify_finds_what_was_done_to_a_store_and_names_the_object(site: Site, what: str) -> None:
    done = TAMPERINGS[what](site)
    name = done if isinstance(done, str) else site.name(done)
    verified = site.r.verify()
    assert any(name in problem for problem in verified.problems), (name, verified.problems)
    assert all("\n" not in problem for problem in verified.problems)


# A digest that is kept elsewhere


def test_a_head_that_was_kept_elsewhere_shows_that_the_newest_end_is_gone_with_all_that_speaks_of_it(tmp_path: Path) -> None:
    make(tmp_path / "site", compacted=True)
    site = Site(recon.open(tmp_path / "site" / "recon.yaml"), tmp_path / "site" / "data")
    assert site.r.state().commit == 7
    head = site.r.head()
    gone(site.entry())  # the compaction: nothing else speaks of it
    assert site.r.verify().problems == []
    r = recon.open(site.r.config.path)
    (problem,) = r.verify(head=head).problems
    assert head in problem
    assert "timeline/" in problem


def test_an_earlier_head_is_an_entry_of_the_chain_however_much_was_committed_since(site: Site) -> None:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(site.data.glob("timeline/*.json"))]
    assert site.r.head() == digests[-1]
    for digest in digests:
        assert site.r.verify(head=digest).problems == []
    site.r.run()
    assert site.r.head() not in digests
    verified = site.r.verify(full=True, head=digests[-1])
    assert (verified.problems, verified.head) == ([], site.r.head())
    assert len(site.r.verify(head=digest_of(b"another")).problems) == 1


def test_a_head_that_is_none_is_refused(site: Site, tmp_path: Path) -> None:
    for text in ("", "abc", "0" * 63, "x" * 64):
        with pytest.raises(WrongUsage, match="is no digest"):
            site.r.verify(head=text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "recon.yaml").write_text(CONFIG)
    r = recon.open(tmp_path / "empty" / "recon.yaml")
    r.close(W[0])
    with pytest.raises(WrongUsage, match="nothing is committed yet"):
        r.head()


def test_a_whole_newest_end_that_is_written_anew_is_found_by_the_head_alone(site: Site) -> None:
    """What an attacker does who knows the form: the entry with another reason, sealed; its certificate made to fit."""
    head, newest, certificate = site.r.head(), site.entry(), site.certificate(2)
    edit(newest, window_put(reason="for fun"), reseal=True)
    changed = {"cause": "replay", "reason": "for fun"}
    edit(certificate, put(entry=digest_of(newest.read_bytes()), changed_by=changed))
    r = recon.open(site.r.config.path)
    assert r.verify().problems == []
    assert len(r.verify(head=head).problems) == 1


# Stores of format 3


def unlinked(path: Path) -> None:
    """An object as format 3 had it."""
    body = json.loads(path.read_text())
    for member in (SEAL, "previous", "made", "entry", "manifest"):
        body.pop(member, None)
    for figures in body.get("windows", {}).values() if "timeline" in path.parts else ():
        figures.pop("reduced")
    path.chmod(0o600)
    path.write_text(json.dumps(body))


@pytest.fixture
def older(tmp_path: Path) -> Site:
    """A store of format 3, two commits old, into which one more was made since."""
    place = tmp_path / "site"
    (place / "data").mkdir(parents=True)
    (place / "recon.yaml").write_text(CONFIG)
    identity = {"format": 3, "name": "orders", "windows.start": "2026-11-01T00:00:00+00:00", "windows.every": "1:00:00"}
    (place / "data" / "store.json").write_text(json.dumps(identity))
    r = recon.open(place / "recon.yaml")
    for hour in (0, 1):
        land(r, hour, f"{hour}.csv", f"A,{hour},10,EUR\n")
        r.run()
    data = place / "data"
    for pattern in ("timeline/*.json", "certificates/*/*.json", "events/*/manifests/*.json", "rules/*.json", "stateless/*/*/figures.json"):
        for path in data.glob(pattern):
            unlinked(path)
    site = Site(recon.open(place / "recon.yaml"), data)
    assert site.r.verify(full=True).problems == []
    for number in range(2):
        land(site.r, 1, f"more-{number}.csv", f"B,{number + 2},20,EUR\n")
        site.r.run()
    return site


def test_a_store_of_format_3_stays_readable_and_is_linked_from_now_on(older: Site) -> None:
    linked = [json.loads(path.read_text()).get("previous") for path in sorted(older.data.glob("timeline/*.json"))]
    assert linked[:2] == [None, None]
    assert linked[2] == digest_of(older.entry(1).read_bytes())
    assert older.r.verify(full=True, head=older.r.head()).problems == []


@pytest.mark.parametrize("what", ["entry", "certificate", "manifest"])
def test_in_a_store_of_format_3_a_link_that_was_cut_is_found(older: Site, what: str) -> None:
    path = {"entry": older.entry, "certificate": lambda: older.certificate(1), "manifest": lambda: older.manifest(1)}[what]()
    unlinked(path)
    assert any(older.name(path) in problem for problem in older.r.verify().problems)


def test_in_a_store_of_format_3_the_last_object_before_the_first_link_is_held_by_it(older: Site) -> None:
    edit(older.entry(1), put(writer="0" * 16))
    assert any(older.name(older.entry(2)) in problem for problem in older.r.verify().problems)
