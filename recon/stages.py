"""The stages that an engine carries out, over a range of windows: whether it is ready, which blocks of it, what to do with a bad window.

Belongs here: reduce, pre-fetch and merge of a range, as the assets do them and as a step on a cluster does them, to figures that only
whoever did it knows (seconds, what a block came to). Does not belong here: what each does with its windows (recon.reduce, recon.prefetch,
recon.merge), and how figures are shown (recon_assets).

Done again, each takes what stands in the store and changes nothing. That is also how a range comes back that was carried out elsewhere
(``Work.elsewhere``): whoever asked for it finds all of it done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from recon.elsewhere import Answer, Asked
from recon.engines.blame import blaming, isolated, quarantined
from recon.errors import Damaged, TryAgain, WrongInput
from recon.handover import blocks, find_prefetched
from recon.mending import mend_replayed
from recon.merge import Merged, merge_windows
from recon.metering import prices
from recon.model.progress import spanned
from recon.model.windows import name_of
from recon.planning import quarantine
from recon.prefetch import prefetch
from recon.readiness import closed_batches, committed_windows, reduced_batches, to_merge
from recon.reduce import reduce_ahead, reduce_windows
from recon.state import reduced
from recon.state.reduced import Figures
from recon.work import Numbers, Work

Windows = Sequence[datetime]
_NAMED_MAX = 12


def reduce(work: Work, windows: Windows) -> Iterator[tuple[Figures, Numbers]]:
    """Each window's batch → its stateless artifacts. One that fails on its data is put in quarantine; the others are done before that
    is raised."""
    failed: list[WrongInput] = []
    batches, named = closed_batches(work, windows), _named(windows)
    with work.report.timed("reduce", work.store):
        if work.elsewhere is None:
            told = Answer()
            reduce_ahead(work.store, work.config, batches)
        else:
            todo = {one.window: one.revision for one in batches if _found(work, one.window, one.revision) is None}
            told = _elsewhere(work, "reduce", windows, todo)
    for number, manifest in enumerate(batches):
        work.progress("reduce", named, number / len(batches))
        start = time.perf_counter()
        try:
            with work.report.timed("reduce", work.store) as spent, blaming(work.store, [manifest.window], "reduced"):
                if work.elsewhere is None:
                    mend_replayed(work.store, work.config, work.head(), [manifest])
                    (figures,) = reduce_windows(work.store, work.config, [manifest])
                else:
                    figures = _reduced_elsewhere(work, manifest.window, manifest.revision, told)
        except WrongInput as error:
            if manifest.window not in told.bad:  # else it was left out there
                _leave_out(work, manifest.window, manifest.revision, error)
            failed.append(error)
            continue
        asked = prices.figures(spent.usage, work.config.prices, of="")
        yield figures, {"seconds": round(time.perf_counter() - start, 3), **asked, **told.numbers.get(manifest.window, {})}
    if failed:
        kind = Damaged if all(isinstance(error, Damaged) for error in failed) else WrongInput
        raise kind("; ".join(map(str, failed[:_NAMED_MAX])) + (f"; and {len(failed) - _NAMED_MAX} more" * (len(failed) > _NAMED_MAX)))


def read_ahead(work: Work, windows: Windows) -> Iterator[tuple[Figures, bool, Numbers]]:
    """The standing records of the keys that the range touches → one file for each merge to come. Says of each window whether it is merged
    already."""
    figures = reduced_batches(work, windows)
    state = work.head()
    todo = to_merge(state, figures)
    read: dict[str, Numbers] = {}
    if work.elsewhere is not None:
        # A session of its own would cost more than it finds: the merge's step pre-fetches first.
        read = {one.window: {"left_to": "stateful_artifacts"} for one in todo}
    for block in [] if work.elsewhere else blocks(work.config, todo):
        start = time.perf_counter()
        work.progress("pre-fetch", spanned([one.window for one in block]), 0)
        with work.report.timed("prefetch", work.store) as spent, _alone_or_raised(work, block, "pre-fetched"):
            found = find_prefetched(work.store, block) or prefetch(work.store, state, block, work.config)
        of_block: Numbers = {
            "range_keys": found.keys,
            "range_records_found": found.found,
            "range_bytes": found.bytes,
            "range_seconds": round(time.perf_counter() - start, 3),
            "read_at_commit": found.commit,
            **prices.figures(spent.usage, work.config.prices, touched=found.keys),
        }
        read |= {one.window: of_block for one in block}
    waiting = {one.window for one in todo}
    for one in figures:
        yield one, one.window not in waiting, read.get(one.window, {})


def merge(work: Work, windows: Windows) -> dict[str, Numbers]:
    """The range's stateless artifacts into the stateful ones, by one commit a block. Of each window that was merged now, what its block
    came to."""
    figures = reduced_batches(work, windows)
    with work.report.timed("merge", work.store):
        told = _elsewhere(work, "merge", windows, {one.window: one.revision for one in to_merge(work.head(), figures)})
    if told.error is not None:
        raise told.error
    written: dict[str, Numbers] = dict(told.numbers)
    todo = to_merge(work.head(), figures)
    if todo and work.elsewhere is not None:
        raise _overtaken(todo[0].window)
    for block in blocks(work.config, todo):
        start = time.perf_counter()
        with work.report.timed("merge", work.store) as spent, _alone_or_raised(work, block, "merged"):
            merged = _merge_block(work, block)
        work.report.add(merged, block, committed_windows(work, [work.config.grid.parse(name) for name in merged.windows]))
        of_block: Numbers = {
            "range_windows": len(merged.windows),
            "range_records_written": merged.written,
            "range_bytes": merged.bytes,
            "range_seconds": round(time.perf_counter() - start, 3),
            "recounted_windows": len(merged.recounted),
            **prices.figures(spent.usage, work.config.prices, written=merged.written),
        }
        written |= dict.fromkeys(merged.windows, of_block)
    return written


@contextmanager
def _alone_or_raised(work: Work, block: Sequence[Figures], doing: str) -> Iterator[None]:
    """Raises what goes wrong with a block. Of several windows it is not known which one is bad: whoever asked halves the range until that
    one is alone, and then it is left out."""
    try:
        with blaming(work.store, [one.window for one in block], doing):
            yield
    except WrongInput as error:
        if len(block) == 1 and isolated(error):
            _leave_out(work, block[0].window, block[0].revision, error)
        raise


def _elsewhere(work: Work, stage: str, windows: Windows, todo: Mapping[str, int]) -> Answer:
    """Has what is left to do carried out elsewhere, if that is where the engine is."""
    if work.elsewhere is None or not todo:
        return Answer()
    work.progress(stage, _named(windows), 0)
    answer = work.elsewhere(work, Asked(stage, name_of(windows[0]), name_of(windows[-1]), todo))
    work.report.take_in(answer.report)
    return answer


def _reduced_elsewhere(work: Work, window: str, revision: int, told: Answer) -> Figures:
    if (reason := told.bad.get(window)) is not None:
        raise WrongInput(reason)
    figures = _found(work, window, revision)
    if figures is None:
        raise told.error or _overtaken(window)
    return figures


def _found(work: Work, window: str, revision: int) -> Figures | None:
    return reduced.find(work.store, work.config.grid.parse(window), revision, work.config.rules_version)


def _overtaken(window: str) -> TryAgain:
    return TryAgain(f"window {window}: a newer revision came in while this one was carried out elsewhere; run the same again")


def _leave_out(work: Work, window: str, revision: int, error: WrongInput) -> None:
    """Keeps why a window could not be processed."""
    work.report.bad[window] = str(error)
    if quarantined(error):
        quarantine.put(work.store, work.config.grid.parse(window), window, revision, work.config.rules_version, str(error))


def _merge_block(work: Work, block: Sequence[Figures]) -> Merged:
    named, found = spanned([one.window for one in block]), find_prefetched(work.store, block)
    try:
        merged = merge_windows(work.store, work.config, work.timeline, block, found, lambda share: work.progress("merge", named, share))
    except Damaged:
        # Another worker that did the same range may have removed the file between our finding and our reading it.
        if found is None or work.store.exists(found.path):
            raise
        merged = merge_windows(work.store, work.config, work.timeline, block)
    if found is not None:
        work.store.delete(found.path)
    return merged


def _named(windows: Windows) -> str:
    return spanned([name_of(window) for window in windows])
