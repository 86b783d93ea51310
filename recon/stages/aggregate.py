"""The computation of an aggregation on a cluster, which reduces the aggregation's files as it reduces those of a window."""

from __future__ import annotations

from recon.errors import TryAgain
from recon.intake.manifests import Manifest
from recon.stages.request import Numbers, StageRequest
from recon.stages.work import Work
from recon.state import reduced
from recon.state.reduced import Figures


def reduce_on_cluster(work: Work, manifest: Manifest) -> tuple[Figures, Numbers]:
    """Reduces the files of a manifest that is not in the store. ``work``: with the aggregation's configuration and a cluster. Returns the
    figures, and the cluster and step, or the job, that computed them. Raises the error of the step."""
    assert work.cluster is not None, "callers have one"
    window = manifest.window
    asked = StageRequest("aggregate", window, window, {window: manifest.revision}, manifest.to_json().decode())
    result = work.cluster(work, asked)
    figures = reduced.find(work.store, work.config.grid.parse(window), manifest.revision, work.config.rules_version)
    if figures is None:
        raise result.error or TryAgain(f"window {window}: the cluster has left nothing; run the same again")
    return figures, result.numbers.get(window, {})
