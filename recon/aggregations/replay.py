"""Takes the file versions of an earlier run again."""

from __future__ import annotations

from recon.aggregations.definitions.load import from_record
from recon.aggregations.preconditions.conditions import Answer
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run
from recon.errors import TryAgain


def replay(site: Aggregations, number: int, worker: str) -> Run:
    """Claims a run of the versions, and by the definition, of an earlier one. Raises WrongUsage where there is none, TryAgain where a run
    of its scope is at work."""
    before = site.runs.get(number)
    definition = from_record(before.aggregation, before.definition, site.config, site.intake.sources)
    past = site.runs.past(before.aggregation, before.scope)
    answer = Answer("replay", True, f"asked to take the files of run {number} again")
    evaluation = Evaluation(definition, before.scope, site.runs.now(), (answer,), before.versions, past)
    run = None if past.active else site.runs.claim(evaluation, worker, replays=number)
    if run is None:
        raise TryAgain(f"{before.aggregation}, {before.scope}: a run is at work; try again when it has ended")
    return run
