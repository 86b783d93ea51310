"""EMR clusters that are started for one run: their configuration, start and end."""

from __future__ import annotations

from typing import Any

from recon.config.settings import Engine, Fleet, Transient
from recon.remote.emr.failures import GONE
from recon.storage.aws_calls import Pace, call, call_with_retries, client

ENCRYPTED = [
    {
        "Classification": "spark-defaults",
        "Properties": {"spark.authenticate": "true", "spark.network.crypto.enabled": "true", "spark.io.encryption.enabled": "true"},
    },
    # YARN's shuffle service asks for the same secret.
    {"Classification": "yarn-site", "Properties": {"spark.authenticate": "true"}},
]
"""Network traffic and spilled data are encrypted with keys of the job's own."""
SPOT_WAIT_MINUTES = 10
"""How long EMR waits for spot instances before it takes on-demand instances."""


def start(name: str, engine: Engine, transient: Transient) -> str:
    """Starts a cluster and returns its id at once: steps may be submitted while it starts. An idle cluster ends by itself, which bounds the
    cost of one whose starter died or whose reply was lost."""
    return str(call(client("emr").run_job_flow, **request(name, engine, transient))["JobFlowId"])


def request(name: str, engine: Engine, transient: Transient) -> dict[str, Any]:
    """The arguments of RunJobFlow."""
    fleets = (("MASTER", transient.fleets.primary), ("CORE", transient.fleets.core), ("TASK", transient.fleets.task))
    asked: dict[str, Any] = {
        "Name": name,
        "ReleaseLabel": transient.release,
        "Applications": [{"Name": "Spark"}],
        "ServiceRole": transient.service_role,
        "JobFlowRole": transient.instance_profile,
        "StepConcurrencyLevel": transient.steps_at_once,
        "AutoTerminationPolicy": {"IdleTimeout": int(transient.idle.total_seconds())},
        "Instances": {
            "InstanceFleets": [_fleet(kind, fleet) for kind, fleet in fleets if fleet is not None],
            "Ec2SubnetIds": list(transient.subnets),
            "KeepJobFlowAliveWhenNoSteps": True,
            "TerminationProtected": False,
        },
        "BootstrapActions": [
            {"Name": path.rpartition("/")[2] or path, "ScriptBootstrapAction": {"Path": path, "Args": [engine.package]}}
            for path in transient.bootstrap
        ],
        "Configurations": ENCRYPTED,
        "Tags": [{"Key": key, "Value": value} for key, value in {**transient.tags, "recon": name}.items()],
        "VisibleToAllUsers": True,
    }
    optional = {"LogUri": transient.logs, "SecurityConfiguration": transient.security_configuration}
    return {**asked, **{field: value for field, value in optional.items() if value is not None}}


def _fleet(kind: str, fleet: Fleet) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Name": kind.lower(),
        "InstanceFleetType": kind,
        "TargetOnDemandCapacity": fleet.on_demand,
        "TargetSpotCapacity": fleet.spot,
        "InstanceTypeConfigs": [{"InstanceType": kind} for kind in fleet.types],
    }
    if fleet.spot:
        spot = {
            "TimeoutDurationMinutes": SPOT_WAIT_MINUTES,
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            "AllocationStrategy": "price-capacity-optimized",
        }
        made["LaunchSpecifications"] = {"SpotSpecification": spot}
    return made


def alive(cluster: str, pace: Pace) -> bool:
    found = call_with_retries(pace, client("emr").describe_cluster, ClusterId=cluster)
    return found["Cluster"]["Status"]["State"] not in GONE


def end(cluster: str, pace: Pace) -> None:
    """Terminates the cluster; a terminated cluster is no error."""
    call_with_retries(pace, client("emr").terminate_job_flows, JobFlowIds=[cluster])
