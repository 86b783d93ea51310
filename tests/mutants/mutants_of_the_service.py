"""Mutants of the service's queue: claims, leases, turns and results."""

from __future__ import annotations

from mutant import Mutant

_CLAIMS = "recon/service/claims.py"
_LAWS = "service/test_claims_laws.py"
_JUMPS = "web/test_two_machines.py::test_a_clock_that_jumps_loses_and_doubles_nothing"

SERVICE = (
    Mutant(
        _CLAIMS,
        "a worker ends a request that another has since",
        '(_T.id == one.id, _T.state == "running", _T.worker == one.worker, _T.tries == one.tries)',
        '(_T.id == one.id, _T.state == "running")',
        (f"{_LAWS}::test_a_lost_claim_changes_nothing", _JUMPS),
    ),
    Mutant(
        _CLAIMS,
        "a request is done though its end was asked for",
        "self._change(connection, one, _T.cancel_at.is_(None), **values)",
        "self._change(connection, one, **values)",
        (f"{_LAWS}::test_what_was_asked_to_end_is_never_done_and_what_is_handed_back_loses_no_try",),
    ),
    Mutant(
        _CLAIMS,
        "large requests take the place that is kept for small ones",
        "self._settings.at_once - self._settings.kept_for_small - ",
        "self._settings.at_once - ",
        (f"{_LAWS}::test_small_requests_have_a_place_that_large_ones_never_take",),
    ),
    Mutant(
        _CLAIMS,
        "a request that was handed back has lost a try",
        "why, tries=one.tries - 1)",
        "why)",
        (f"{_LAWS}::test_what_was_asked_to_end_is_never_done_and_what_is_handed_back_loses_no_try",),
    ),
    Mutant(
        _CLAIMS,
        "after a clock that was ahead, a request waits for days",
        ", _T.not_before > now + FAR)",
        ")",
        (_JUMPS,),
    ),
    Mutant(
        "recon/service/results.py",
        "a service removes results of another reconciliation",
        "self._root = f\"{place.service.results.rstrip('/')}/{place.name}\"",
        "self._root = place.service.results.rstrip('/')",
        ("service/test_two_reconciliations.py",),
    ),
    Mutant(
        "recon/service/results.py",
        "results of an owner that is forgotten stay",
        '            self.store.delete(path)\n        if (folder := self.store.local(f"{RESULTS}/{place}"))',
        '            pass\n        if (folder := self.store.local(f"{RESULTS}/{place}"))',
        ("web/test_forget.py",),
    ),
)
