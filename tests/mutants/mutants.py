"""The mutants of `make mutants`: mistakes that somebody could make, each with the tests that must notice it.

A mutant's ``old`` text is in its module exactly once.
"""

from __future__ import annotations

from mutant import Mutant
from mutants_of_the_service import SERVICE
from mutants_of_the_warehouse import WAREHOUSE
from mutants_of_the_web import WEB


def _tampering(*what: str) -> tuple[str, ...]:
    """The tests of single tamperings."""
    return tuple(f"verification/test_tampering.py::test_verify_finds_what_was_done_to_a_store_and_names_the_object[{one}]" for one in what)


_REDUCE = ("laws/test_ties.py::test_reduce_refuses_what_does_not_tie",)
_DECLARED = ("laws/test_ties.py::test_declared_totals_are_tied_with_what_was_read",)
_MERGE = ("laws/test_ties.py::test_merge_refuses_artifacts_that_are_not_what_was_reduced",)
_SUPPRESSED = ("laws/test_ties.py::test_merge_refuses_events_that_are_not_what_was_reduced_where_some_are_suppressed",)
_RECOUNT = ("laws/test_ties.py::test_a_recount_refuses_what_does_not_tie",)
_CERTIFY = ("laws/test_ties.py::test_a_certificate_of_figures_that_do_not_tie_says_so",)
_KNOWN_AT = ("laws/test_ties.py::test_known_at_the_very_microsecond_of_a_commit_is_that_commit",)
_TWICE = ("laws/test_ties.py::test_the_same_bytes_twice_in_one_call_are_one_file",)
_OTHERS = ("laws/test_ties.py::test_windows_that_do_not_tie_do_not_hold_up_others",)
_PREFETCH = tuple(
    f"laws/test_ties.py::test_{name}"
    for name in (
        "a_pre_fetched_file_of_another_revision_is_not_used",
        "a_pre_fetched_file_for_another_committed_revision_is_not_used",
        "a_pre_fetched_file_from_before_a_rebuild_is_not_used",
        "what_later_commits_wrote_is_read_beside_a_pre_fetched_file",
        "a_pre_fetched_file_that_is_not_what_was_written_is_refused",
    )
)
_HEAD = (
    "verification/test_tampering.py::test_an_earlier_head_is_an_entry_of_the_chain_however_much_was_committed_since",
    "verification/test_tampering.py::test_a_whole_newest_end_that_is_written_anew_is_found_by_the_head_alone",
)
_CHAIN = (
    "state/test_timeline.py::test_each_entry_names_the_digest_of_the_one_before_and_bears_a_seal",
    "state/test_timeline.py::test_the_link_holds_where_the_state_was_read_from_a_checkpoint",
    "state/test_timeline.py::test_entries_of_format_3_stay_readable_and_the_chain_begins_after_them",
)
_WATERMARK = ("state/test_timeline.py::test_the_watermark_reaches_as_far_as_windows_are_closed_without_a_gap",)
_REBUILT = ("state/test_timeline.py::test_a_generation_takes_the_place_of_all_that_stood_and_commits_go_on_from_there",)
_CARRIED = ("laws/test_regressions.py::test_verify_adds_up_what_is_carried_forward_beyond_38_digits",)
_FAST = tuple(
    f"laws/test_fast_way.py::test_{name}"
    for name in (
        "both_ways_give_equal_bytes_where_the_fast_way_has_a_limit",
        "both_ways_give_equal_bytes_where_a_key_is_gone_from_one_of_two_corrected_windows",
        "these_keys_take_the_fast_way",
    )
)
_WORDS = tuple(
    f"verification/test_words.py::test_{name}"
    for name in ("bytes_that_say_the_same_in_another_way_are_odd", "flags_and_values_without_need_are_odd")
)
_DIGITS = ("laws/test_regressions.py::test_sums_of_more_than_28_digits_tie_to_the_last_cent",)

MUTANTS = (
    # Ties of reduce
    Mutant(
        "recon/engines/duckdb/window.py",
        "reduce ties nothing",
        '    if differences:\n        raise WrongInput(f"window {manifest.window}: reduce does not tie',
        '    if False:\n        raise WrongInput(f"window {manifest.window}: reduce does not tie',
        _REDUCE,
    ),
    Mutant(
        "recon/engines/duckdb/window.py",
        "reduce does not tie the events in the artifacts",
        "    if events != figures.accepted.rows:",
        "    if events < 0:",
        _REDUCE,
    ),
    Mutant(
        "recon/engines/duckdb/window.py",
        "reduce leaves rejected rows out of its tie",
        "arrived.differences(figures.accepted + figures.duplicates + figures.rejected)",
        "(arrived - figures.rejected).differences(figures.accepted + figures.duplicates)",
        _REDUCE,
    ),
    Mutant(
        "recon/engines/duckdb/window.py",
        "what arrived is counted from what was written, not from what was read",
        "arrived = Totals(sum(file.rows for file in read), money)",
        "arrived = Totals(reduce.totals_of(connection, config, parquet.scan(written[reduced.EVENTS])).rows + 2, money)",
        _REDUCE,
    ),
    Mutant(
        "recon/engines/duckdb/window.py",
        "declared totals are not compared",
        "    if not file.expect:\n        return",
        "    if True:\n        return",
        _DECLARED,
    ),
    Mutant(
        "recon/engines/duckdb/window.py",
        "declared rows are not compared",
        "    compared = Totals(found.rows, {name",
        "    compared = Totals(declared.rows, {name",
        _DECLARED,
    ),
    Mutant(
        "recon/model/totals.py",
        "totals compare rows alone",
        "                if left != right:\n",
        "                if False:\n",
        _REDUCE,
    ),
    Mutant(
        "recon/model/totals.py",
        "totals compare money alone",
        "found = [] if self.rows == other.rows else",
        "found = [] if True else",
        _REDUCE,
    ),
    Mutant(
        "recon/model/totals.py",
        "a currency that is missing on one side is left out",
        "for by in sorted({*mine, *theirs}):",
        "for by in sorted({*mine} & {*theirs}):",
        (*_REDUCE, *_SUPPRESSED, "laws/test_ties.py::test_totals_differ_by_a_currency_that_one_side_lacks"),
    ),
    Mutant(
        "recon/model/totals.py",
        "sums of parts are rounded to 28 digits",
        "    with localcontext() as exact:\n        exact.prec = 80\n        return sum(",
        "    with localcontext() as exact:\n        exact.prec = 28\n        return sum(",
        (*_DIGITS, "laws/test_ties.py::test_exact_sums_keep_every_digit"),
    ),
    # Ties of merge
    Mutant(
        "recon/stages/commit.py",
        "merge commits what does not tie",
        '    if wrong:\n        raise WrongInput(f"the merge does not tie',
        '    if False:\n        raise WrongInput(f"the merge does not tie',
        _MERGE,
    ),
    Mutant(
        "recon/stages/commit.py",
        "merge does not tie rows",
        "        if (in_records, held_back) != (counted.rows, suppressed.rows):",
        "        if False:",
        (*_MERGE, *_SUPPRESSED),
    ),
    Mutant(
        "recon/stages/commit.py",
        "merge does not tie rows that are counted",
        "        if (in_records, held_back) != (counted.rows, suppressed.rows):",
        "        if held_back != suppressed.rows:",
        _MERGE,
    ),
    Mutant(
        "recon/stages/commit.py",
        "merge does not tie rows that are held back",
        "        if (in_records, held_back) != (counted.rows, suppressed.rows):",
        "        if in_records + held_back != figures.accepted.rows:",
        ("laws/test_ties.py::test_merge_refuses_rows_held_back_that_are_not_those_of_the_events",),
    ),
    Mutant(
        "recon/stages/commit.py",
        "merge does not tie measures",
        "                if exact_sum((measures.get(name, 0), elsewhere.get(name, 0))) != Decimal(total)",
        "                if False",
        (*_MERGE, *_SUPPRESSED),
    ),
    Mutant(
        "recon/stages/commit.py",
        "a recount is not tied",
        '        wrong += [f"{name}: recounted, {what}" for what in _recount_differences(config, moved, changes)]',
        "        _recount_differences(config, moved, changes)",
        _RECOUNT,
    ),
    Mutant(
        "recon/stages/commit.py",
        "a recount does not tie rows",
        "found = [] if rows == events else",
        "found = [] if True else",
        _RECOUNT,
    ),
    Mutant(
        "recon/stages/commit.py",
        "a recount does not tie measures",
        "        if exact_sum((kept.get(name, 0), gone.get(name, 0))):",
        "        if False:",
        (*_RECOUNT, "laws/test_ties.py::test_a_committed_windows_events_that_changed_are_refused_by_the_recount"),
    ),
    Mutant(
        "recon/stages/commit.py",
        "a window outside the range keeps the figures that it had",
        '        "counted": (Totals.from_json(before["counted"]) - change).to_json(),',
        '        "counted": before["counted"],',
        _RECOUNT,
    ),
    Mutant(
        "recon/state/kept_rules.py",
        "a merge goes on with rules that changed",
        "    if state.rules and state.rules != config.rules_version:",
        "    if False:",
        ("laws/test_ties.py::test_a_merge_by_other_rules_is_refused",),
    ),
    Mutant(
        "recon/stages/merge.py",
        "a revision that is committed is merged again",
        "figures.revision > state.revision(figures.window)",
        "figures.revision >= state.revision(figures.window)",
        ("laws/test_ties.py::test_a_revision_that_is_committed_is_not_merged_again",),
    ),
    # Pre-fetch
    Mutant(
        "recon/engines/duckdb/slices.py",
        "a pre-fetched file of another revision is used",
        "prefetched.revisions.get(f.window) == f.revision and prefetched",
        "prefetched",
        _PREFETCH,
    ),
    Mutant(
        "recon/engines/duckdb/slices.py",
        "a pre-fetched file against another committed revision is used",
        " and prefetched.committed.get(f.window) == committed.get(f.window)",
        "",
        _PREFETCH,
    ),
    Mutant(
        "recon/engines/duckdb/slices.py",
        "a pre-fetched file from before a rebuild is used",
        "    if prefetched is None or prefetched.commit < state.rebuilt:",
        "    if prefetched is None:",
        _PREFETCH,
    ),
    Mutant(
        "recon/engines/duckdb/slices.py",
        "what later commits wrote is not read beside a pre-fetched file",
        "        later += [run.path for run in entry.runs_added if run.part_bytes] if entry else []",
        "        later += []",
        _PREFETCH,
    ),
    Mutant(
        "recon/engines/duckdb/slices.py",
        "the commit right after the pre-fetch is left out",
        "for number in range(task.state.commit, task.prefetched.commit, -1):",
        "for number in range(task.state.commit, task.prefetched.commit + 1, -1):",
        _PREFETCH,
    ),
    Mutant(
        "recon/engines/prefetched.py",
        "a pre-fetched file is used though it is damaged",
        "if zlib.crc32(part) != chunk.check:",
        "if False:",
        _PREFETCH,
    ),
    Mutant(
        "recon/engines/existing.py",
        "keys of the committed revision are not touched",
        "    folders += [state.windows[f.window].folder for f in range_figures if f.window in state.windows]\n",
        "",
        ("laws/test_ties.py::test_a_key_that_is_gone_from_a_window_loses_what_the_window_gave_it",),
    ),
    # Certificates
    Mutant(
        "recon/stages/certify.py",
        "a certificate always says that it ties",
        '    certificate["ties"] = not ties(certificate)',
        '    certificate["ties"] = True',
        _CERTIFY,
    ),
    Mutant(
        "recon/state/certificates.py",
        "a certificate ties without its duplicates",
        "return arrived.differences(accepted + duplicates + rejected)",
        "return (arrived - duplicates).differences(accepted + rejected)[:0]",
        _CERTIFY,
    ),
    Mutant(
        "recon/stages/certify.py",
        "a certificate does not name the one before it",
        '        "previous": previous,',
        '        "previous": "",',
        _HEAD,
    ),
    Mutant(
        "recon/state/certificates.py",
        "the watermark passes over an open window",
        "        if not (closed[name] if name in closed else state.windows[name].closed):",
        "        if False:",
        _WATERMARK,
    ),
    # Timeline and chain
    Mutant(
        "recon/state/timeline.py",
        "an entry names no entry before it",
        "        entry = replace(entry, previous=self.digest(onto))",
        '        entry = replace(entry, previous="")',
        _CHAIN,
    ),
    Mutant(
        "recon/state/timeline.py",
        "after a checkpoint the chain is broken",
        '            rebuilt=at["rebuilt"],\n            digest="",',
        '            rebuilt=at["rebuilt"],\n            digest="0",',
        _CHAIN,
    ),
    Mutant(
        "recon/storage/sealing.py",
        "a seal is not compared",
        "    return end is not None and digest_of(raw[: end.start()]) == end[1].decode()",
        "    return end is not None",
        _CHAIN,
    ),
    Mutant(
        "recon/state/timeline.py",
        "a rebuilt window keeps the commit that it had",
        "window._replace(commit=entry.number) for name, window in rebuilt.windows.items()",
        "window for name, window in rebuilt.windows.items()",
        _REBUILT,
    ),
    # What verify sees
    Mutant(
        "recon/verification/slots.py",
        "verify does not look at the slots of nulls",
        "        wrong = ~valid & ((low != 0) | (high != 0))",
        "        wrong = valid & False",
        _WORDS,
    ),
    Mutant(
        "recon/verification/slots.py",
        "verify does not look at the order of texts",
        "        wrong = np.concatenate([of[offset != before - before[first]], np.flatnonzero(total != self._text_bytes)])",
        "        wrong = np.flatnonzero(total < 0)",
        _WORDS,
    ),
    Mutant(
        "recon/verification/words.py",
        "verify does not look for flags without need",
        "            wrong |= shape.has(flag) != reason",
        "            pass",
        _WORDS,
    ),
    Mutant(
        "recon/verification/records.py",
        "verify takes the form of records from any head",
        "    expected = form_of(config) if state.rules == config.rules_version else form",
        "    expected = form",
        ("verification/test_damaged_state.py::test_a_head_of_another_form_under_a_right_check_is_found",),
    ),
    Mutant(
        "recon/verification/chain.py",
        "verify does not compare links",
        "            if self._before is not None and previous != self._before[1]:",
        "            if False:",
        _tampering("the maker of an entry, sealed anew"),
    ),
    Mutant(
        "recon/verification/chain.py",
        "verify passes over an object without a link",
        "        if previous is None and self._linked:",
        "        if False:",
        _tampering("the link of the newest entry is cut"),
    ),
    Mutant(
        "recon/verification/certificates.py",
        "verify looks at certificates of committed windows alone",
        "            found.setdefault(layout.window_name(folder), []).append(path)",
        "            found.get(layout.window_name(folder), []).append(path)",
        _tampering("a certificate of a window without a commit"),
    ),
    Mutant(
        "recon/verification/certificates.py",
        "verify does not compare what a certificate says with its commit",
        "    differing = [field for field in expected if certificate[field] != expected[field]]",
        "    differing: list[str] = []",
        _tampering("the time of the newest certificate"),
    ),
    Mutant(
        "recon/verification/traces.py",
        "verify does not look for rules that are gone",
        "        if layout.rules(version) not in kept:",
        "        if False:",
        _tampering("the rules of earlier commits are removed"),
    ),
    Mutant(
        "recon/verification/traces.py",
        "verify takes any digest for one of the chain",
        "    if head not in history.digests.values():",
        "    if False:",
        _HEAD,
    ),
    Mutant(
        "recon/verification/landed.py",
        "verify does not miss manifests that commits name",
        "            if revision not in manifests:",
        "            if False:",
        _tampering("the newest manifest of a committed window is removed"),
    ),
    Mutant(
        "recon/verification/reduced.py",
        "verify does not look at reductions of earlier commits",
        "    _check_earlier(proof)",
        "    pass",
        _tampering("the rows of an earlier commit"),
    ),
    Mutant(
        "recon/verification/sums.py",
        "verify leaves the upper half of large values out",
        "Decimal(high * _HALF + low)",
        "Decimal(low)",
        _CARRIED,
    ),
    # Landing, and what was known
    Mutant(
        "recon/intake/batches.py",
        "the same bytes twice in one call are two files",
        "        known[digest] = file.name\n",
        "",
        _TWICE,
    ),
    Mutant(
        "recon/state/timeline.py",
        "at the very microsecond of a commit the one before is known",
        "datetime.fromisoformat(entry.time) <= instant:",
        "datetime.fromisoformat(entry.time) < instant:",
        _KNOWN_AT,
    ),
    Mutant(
        "recon/stages/pipeline.py",
        "a window that does not tie holds up the others",
        "            todo = [*(_cut(work.config, good, carry_out) if len(good) < len(part) else _halves(part)), *todo]",
        "            todo = [*_cut(work.config, good, carry_out), *todo] if len(good) < len(part) else todo",
        _OTHERS,
    ),
    Mutant(
        "recon/records/contributions.py",
        "a sum that needs more than 64 bits is added up",
        "            wide |= _overflowing(column.low, kept, first)\n",
        "",
        _FAST,
    ),
    Mutant(
        "recon/records/contributions.py",
        "contributions are not in order of windows",
        'np.argsort(both.place, kind="stable")',
        'np.argsort(both.of, kind="stable")',
        _FAST,
    ),
    Mutant(
        "recon/engines/duckdb/fast.py",
        "keys with an id in two windows take the fast way",
        "        wrong |= sharing_ids(found, len(usual))\n",
        "",
        _FAST,
    ),
    Mutant(
        "recon/engines/duckdb/fast.py",
        "keys of two currencies take the fast way",
        "(code[1:] != code[:-1])",
        "(code[1:] < 0)",
        _FAST,
    ),
    Mutant(
        "recon/engines/duckdb/fast.py",
        "keys with more windows than a record keeps take the fast way",
        "    wrong |= np.bincount(found.of, minlength=len(usual)) > carried_forward.FOLD_MIN\n",
        "",
        _FAST,
    ),
    Mutant(
        "recon/engines/duckdb/fast.py",
        "a window that no longer contributes is not listed",
        "        wrong[old.of[replaced][~_among(old.place[replaced], new.place)]] = True\n",
        "        pass\n",
        _FAST,
    ),
    Mutant(
        "recon/engines/duckdb/fast.py",
        "records that are equal are written again",
        "    if equal.any():",
        "    if False:",
        _FAST,
    ),
    *WAREHOUSE,
    *WEB,
    *SERVICE,
)
