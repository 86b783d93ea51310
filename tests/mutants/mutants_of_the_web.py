"""Mutants of the service's HTTP interface."""

from __future__ import annotations

from mutant import Mutant

_GUARD, _LOGINS, _LOOKUPS = "recon/web/guard.py", "recon/web/logins.py", "recon/web/lookups.py"


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"web/test_{file}.py::test_{name}" for name in names)


WEB = (
    Mutant(
        _LOGINS,
        "who reads all cancels what is others'",
        'if holder.owner == owner or holder.has("admin"):',
        'if holder.owner == owner or holder.has("read-all"):',
        _tests("matrix", "who_submits_and_reads_all_cancels_nothing_of_others"),
    ),
    Mutant(
        _LOGINS,
        "the first of two tokens counts",
        "if len(given) == 1 and",
        "if given and",
        _tests("bad_names", "two_tokens_in_one_request"),
    ),
    Mutant(
        _LOGINS,
        "a proxy's header names an owner that there is not",
        "or names[0] not in site.service.settings.owners:",
        "or not names[0]:",
        _tests("bad_names", "a_header_that_names_an_owner_counts_only_where_it_is_configured"),
    ),
    Mutant(
        _LOGINS,
        "the first of two headers of a proxy counts",
        "if len(names) != 1 or",
        "if not names or",
        _tests("bad_names", "a_header_that_names_an_owner_counts_only_where_it_is_configured"),
    ),
    Mutant(
        _GUARD,
        "a body is only as large as it says",
        "        if self._most is not None and self._size > self._most:",
        "        if self._most is not None and self._size > self._most and self._announced:",
        _tests("bad_bodies", "a_body_that_has_no_end_is_cut_off"),
    ),
    Mutant(
        _GUARD,
        "a body may come for ever, drop by drop",
        "max(0.0, min(PAUSE_S, self._end - time.monotonic()))",
        "PAUSE_S",
        _tests("bad_bodies", "a_body_that_never_pauses_and_never_ends"),
    ),
    Mutant(
        _GUARD,
        "a request hides behind another",
        'if {b"content-length", b"transfer-encoding"} <=',
        'if {b"content-length", b"transfer-encoding", b""} <=',
        _tests("bad_bodies", "length_and_chunks_together_make_one_request"),
    ),
    Mutant(
        _GUARD,
        "a client that reads nothing keeps its place",
        "await asyncio.wait_for(self._send(message), SEND_S)",
        "await self._send(message)",
        _tests("bad_bodies", "a_client_that_reads_nothing_keeps_no_place"),
    ),
    Mutant(
        _GUARD,
        "an answer is sent though it cannot be noted",
        "                await self._replace()\n                return\n",
        "                pass\n",
        _tests("audit", "nothing_is_answered_that_cannot_be_noted"),
    ),
    Mutant(
        "recon/web/audit.py",
        "line ends of other alphabets are in the audit log",
        "ensure_ascii=True",
        "ensure_ascii=False",
        _tests("audit", "control_characters_make_no_line"),
    ),
    Mutant(
        "recon/web/protocol.py",
        "headers may come for ever",
        "if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:",
        "if False:",
        _tests("bad_bodies", "headers_that_come_slowly"),
    ),
    Mutant(
        _LOOKUPS,
        "the last break of a page is on the next too",
        'pc.greater(found["key"], after)',
        'pc.greater_equal(found["key"], after)',
        _tests("lookups", "each_break_is_on_one_page_whatever_is_committed_between"),
    ),
    Mutant(
        _LOOKUPS,
        "a cursor of an earlier commit counts rows of this one",
        "if cursor is not None and int(commit) != now:",
        "if False:",
        _tests("lookups", "duplicates_page_by_page"),
    ),
    Mutant(
        "recon/web/problems.py",
        "a mistake of the site is told to clients",
        "    raise error  # a damaged store",
        '    return ProblemError("wrong-parameter", str(error))  # a damaged store',
        _tests("audit", "a_store_that_fails_stores_nothing_and_says_so"),
    ),
)
