"""Whether a cluster takes steps now, as one quick call: no cluster is a reason to wait, not a failure."""

from __future__ import annotations

from recon.config.settings import Engine
from recon.errors import ReconError, TryAgain
from recon.remote.emr.failures import GONE
from recon.storage.aws_calls import call, client

_CONNECT_S, _READ_S = 3, 5


def why_absent(engine: Engine) -> str:
    """Why nothing can be submitted to the cluster that the configuration names; "" if something can be, if each run starts its own, or if
    this process may not ask: the run finds out."""
    if engine.kind != "emr" or engine.cluster is None:
        return ""
    try:
        described = call(client("emr", _CONNECT_S, _READ_S).describe_cluster, ClusterId=engine.cluster)["Cluster"]
    except TryAgain as error:
        return f"cluster {engine.cluster} could not be asked ({error})"
    except ReconError:
        return ""
    status = described["Status"]
    if status["State"] not in GONE:
        return ""
    reason = status.get("StateChangeReason", {}).get("Message") or "no reason given"
    return f"cluster {engine.cluster} is {status['State']} ({reason}); start one and name it under engine.cluster"
