"""Verifies the objects that refer to commits: kept rules, notes of the index, frontiers, and a digest that was kept elsewhere.

The protocol: docs/decisions/018-chain.md.
"""

from __future__ import annotations

import re

from recon.config import Config
from recon.errors import Damaged, WrongUsage
from recon.state.kept_rules import unpacked
from recon.storage import layout
from recon.storage.documents import RESTORE
from recon.storage.port import ObjectStore
from recon.storage.sealing import unsealed
from recon.verification.findings import UNREADABLE, Findings, text_of
from recon.verification.timeline import History

_NUMBER = re.compile(r"(\d+)(\.json)?\Z")
_OF_COMMITS = ("certified", "history", "copied")
"""The frontiers whose numbers are commits."""


def check_rules(store: ObjectStore, config: Config, history: History, findings: Findings) -> None:
    """Checks the kept rules: each version that an entry names is there, and gives that version."""
    kept = set(store.list(layout.RULES))
    for version in sorted(history.rules - {""}):
        if layout.rules(version) not in kept:
            findings.add(
                f"{layout.rules(version)}: the rules of version {version} are gone though commits name them, so that what was known by "
                f"them cannot be judged again; {RESTORE}"
            )
    for path in sorted(kept):
        version = path.removeprefix(layout.RULES).removesuffix(".json")
        try:
            body = unsealed(store.get(path), needed=history.linked)
            found = unpacked(path, body, config.store)
            # Logic of an installed package is not kept: another version of the package is no damage.
            if found.rules_version != version and (body["logic"] or found.logic is None):
                raise Damaged(f"they give the version {found.rules_version}")
        except (*UNREADABLE, WrongUsage) as error:
            findings.add(f"{path}: the rules of version {version} are not what was written ({text_of(error)}); {RESTORE}")


def check_traces(store: ObjectStore, history: History, findings: Findings) -> None:
    """Checks that no object refers to a commit that the timeline does not have."""
    if not history.complete:
        return  # a missing entry has a finding already, and cannot be told from an unreadable one
    newest = history.state.commit
    lost = f"and the newest one is {newest}: the timeline has lost its newest entries; restore them from a copy of the store"
    for path in store.list(layout.INDEXED):
        commit = _number(path)
        if commit > newest:
            findings.add(f"{path}: the index has taken in commit {commit}, {lost}")
    for name in _OF_COMMITS:
        for path in store.list(layout.frontier(name)):
            if _number(path) > newest:
                findings.add(f"{path}: something has come as far as commit {_number(path)}, {lost}")


def check_head(history: History, head: str, findings: Findings) -> None:
    """Checks that the chain still has the entry with the digest ``head``, which was printed earlier."""
    if head not in history.digests.values():
        findings.add(
            f"{layout.TIMELINE}: no entry has the digest {head}: entries were removed or edited since 'recon head' printed it, or it is "
            "another store's; restore the timeline from a copy of the store"
        )


def digest_given(text: str) -> str:
    """A digest as ``recon head`` prints it. Raises WrongUsage for any other text."""
    digest = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise WrongUsage(f"--head {text!r}: is no digest; give the 64 digits (0-9, a-f) that 'recon head' printed")
    return digest


def _number(path: str) -> int:
    found = _NUMBER.search(path)
    return int(found[1]) if found else 0
