"""What each stage asks of AWS is allowed by its role in infra/template.yaml, and nothing of another stage's.

A small pipeline runs on a real S3 server and DynamoDB Local, each stage under its role's profile, through a proxy that lets IAM's rules
judge every request before it passes. The policies are those that CloudFormation (moto) made of the template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import seaweed
from aws_template import moto_server, moto_stack
from dynamodb_local import CREDENTIALS, dynamodb_local
from emr_server import EmrCluster, emr_server
from iam import Call, matches
from recorded_requests import ACCOUNT, REGION, Judge, Recorded, proxy
from roles_at_work import (
    KEY,
    PARTS,
    ROLES,
    STAGES,
    Rules,
    environment,
    in_the_name_of,
    make_table,
    of_the_table,
    on_a_cluster,
    whole_life,
)


@pytest.fixture(scope="module")
def rules() -> Rules:
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch, network=True, **PARTS) as stack:
        return Rules(stack, stack.of_bucket("StoreBucket"))


@pytest.fixture(scope="module")
def recorded(rules: Rules, seaweed_server: seaweed.Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Every stage done once at least, with corrections, a bad file, compaction, sweeping, a rebuild, look-ups."""
    folder, found, s3 = tmp_path_factory.mktemp("roles"), Recorded(), seaweed_server
    judge: Judge = rules.judge
    with (
        dynamodb_local(folder) as dynamodb,
        proxy(s3.endpoint, "s3", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as s3_proxy,
        proxy(dynamodb, "dynamodb", judge, KEY, tuple(CREDENTIALS.values()), found) as dynamodb_proxy,
        moto_server() as moto,
        proxy(moto, "lambda", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as lambda_proxy,
        proxy(moto, "monitoring", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as cloudwatch_proxy,
        emr_server(folder / "emr", {"PATH": "/usr/bin:/bin"}) as emr,
        proxy(emr.url, "elasticmapreduce", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as emr_proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        others = {"STS": moto, "LAMBDA": lambda_proxy, "CLOUDWATCH": cloudwatch_proxy, "EMR": emr_proxy}
        environment(patch, folder, s3_proxy, dynamodb_proxy, others)
        bucket, table = rules.stack.ids["StoreBucket"], rules.stack.ids["IndexTable"]
        logs = rules.stack.outputs["LogBucketName"]
        for name in (bucket, logs):
            s3.client().create_bucket(Bucket=name)
        make_table(dynamodb, table)
        whole_life(folder, f"s3://{bucket}/recon", table)
        emr.clusters[rules.stack.outputs["ClusterId"]] = EmrCluster(rules.stack.outputs["ClusterId"], {}, 10, f"s3://{logs}/emr/")
        for who in ("reduce", "prefetch", "merge", "pipeline"):
            on_a_cluster(folder, who, rules.stack)
        for who in ("index", "upkeep", "pipeline"):
            of_the_table(folder / "orders.yaml", who, rules.stack)
        in_the_name_of(rules, found)
        yield found


def test_each_stage_asks_for_nothing_that_its_role_does_not_allow(recorded: Recorded) -> None:
    assert sorted(set(recorded.refused)) == []


def test_each_stage_was_at_work_under_its_own_role(recorded: Recorded) -> None:
    assert set(recorded.made) == set(ROLES)


def test_the_scenario_reaches_what_the_rules_are_about(recorded: Recorded) -> None:
    """Else nothing refused would say nothing."""
    done = {who: {(call.action, _folder(call)) for call in calls.values()} for who, calls in recorded.made.items()}
    assert ("s3:DeleteObject", "state") in done["upkeep"]
    assert ("s3:DeleteObject", "prefetched") in done["merge"]
    assert ("s3:PutObject", "quarantine") in done["reduce"]
    assert {("s3:PutObject", "timeline"), ("s3:PutObject", "state"), ("dynamodb:UpdateItem", "table")} <= done["index"]
    assert ("dynamodb:BatchWriteItem", "table") in done["index"]
    assert {("dynamodb:UpdateItem", "table"), ("s3:PutObject", "shares"), ("s3:GetObject", "state")} <= done["index-worker"]
    assert ("dynamodb:GetItem", "table") in done["lookup"]
    assert ("dynamodb:CreateTable", "table") in done["pipeline"] | done["upkeep"] | done["index"]
    assert ("kms:GenerateDataKey", "key") in done["reduce"]
    assert {("s3:PutObject", "loads"), ("s3:PutObject", "stateless"), ("s3:DeleteObject", "stateless")} <= done["aggregate"]
    assert any("s3:prefix" not in call.context for call in recorded.of("merge") if call.action == "s3:ListBucket")  # of a 404


def _folder(call: Call) -> str:
    """The first folder below the store's prefix; of another bucket ``elsewhere``; ``table``, ``key`` or the service's name of others."""
    kind = call.action.partition(":")[0]
    if kind != "s3":
        return {"dynamodb": "table", "kms": "key"}.get(kind, kind)
    if not _of_the_store(call):
        return "elsewhere"
    return [*call.resource.split("/", 2), "", ""][2].partition("/")[0]


def test_every_statement_of_every_role_is_judged_by_a_call_that_was_made(rules: Rules, recorded: Recorded) -> None:
    """By a call of some role that has the statement. The nodes of a cluster do what the stages of the engine do."""
    assert set(rules.stack.roles) == set(ROLES.values())
    judged: dict[str, bool] = {}
    for who, role in ROLES.items():
        doing = ("nodes", "reduce", "prefetch", "merge") if who == "nodes" else (who,)
        calls = [rules.of_key(call) for one in doing for call in recorded.of(one)]
        for policy in rules.stack.roles[role]:
            for statement in policy["Statement"]:
                name = f"{statement['Sid']} {json.dumps(statement, sort_keys=True)}"
                judged[name] = judged.get(name, False) or matches(statement, calls)
    assert [name for name, done in judged.items() if not done] == []


def _of_the_store(call: Call) -> bool:
    return call.resource.startswith("arn:aws:s3:::recon-storebucket-")


ALSO = {
    # What a stage may change without having done so here: Spark's pieces, orders of things that only now and then happen.
    "land": {"leases", "frontiers", "clock", "corrections"},
    "reduce": {"state", "stateless"},
    "prefetch": {"state", "cache"},
    "merge": {"quarantine", "state"},
    "index": {"shares", "leases", "frontiers"},
    "certify": {"frontiers"},
    "upkeep": {
        "certificates",
        "clock",
        "frontiers",
        "generations",
        "landings",
        "leases",
        "prefetched",
        "serving",
        "shares",
        "stateless",
        "state",
        "timeline",
        "steps",
    },
    "aggregate": {"steps"},  # with an engine on a cluster it asks for a step
    "orchestrator": {"clock", "events", "landings", "frontiers", "leases"},
}
"""Role → folders in which it may put or delete besides those where it did."""


@pytest.mark.parametrize("who", [*STAGES, "index-worker", "upkeep", "aggregate", "orchestrator", "lookup"])
def test_what_one_stage_may_change_is_denied_to_the_others(rules: Rules, recorded: Recorded, who: str) -> None:
    """The same puts and deletes that were recorded, asked by a role that did none of that kind in their folder."""
    own = {(call.action, _folder(call)) for call in recorded.of(who)}
    wrong = []
    for call in _changes(recorded):
        folder = _folder(call)
        if (call.action, folder) not in own and folder not in ALSO.get(who, set()) and rules.judge(who, call) is None:
            wrong.append(f"{who} is allowed {call}")
    assert wrong == []


def _changes(recorded: Recorded) -> list[Call]:
    made = [one for calls in recorded.made.values() for one in calls.values() if one.action in ("s3:PutObject", "s3:DeleteObject")]
    return [one for one in made if _of_the_store(one)]


@pytest.mark.parametrize("who", sorted(ROLES))
def test_no_role_changes_a_folder_that_the_store_does_not_have(rules: Rules, who: str) -> None:
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        if who == "pipeline" and action == "s3:PutObject":
            continue  # it may put anything below its prefix
        assert rules.judge(who, _put(rules, "elsewhere/x", action)) is not None
        assert rules.judge(who, _put(rules, "../orders/timeline/x", action)) is not None


REFUSED = [
    ("reduce", "s3:PutObject", "timeline/000000000001.json"),
    ("reduce", "s3:PutObject", "state/0123456789abcdef/part-0000.words"),
    ("reduce", "s3:DeleteObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("merge", "s3:DeleteObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("reduce", "s3:PutObject", "events/2026-11-01T0000Z/manifests/000002.json"),
    ("prefetch", "s3:PutObject", "state/0123456789abcdef/part-0000.words"),
    ("prefetch", "s3:PutObject", "timeline/000000000001.json"),
    ("merge", "s3:DeleteObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("merge", "s3:DeleteObject", "state/0123456789abcdef/part-0000.words"),
    ("merge", "s3:DeleteObject", "state/0123456789abcdef/merge.run"),
    ("merge", "s3:PutObject", "certificates/2026-11-01T0000Z/000001.json"),
    ("merge", "s3:PutObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("index", "s3:DeleteObject", "state/0123456789abcdef/tier.run"),
    ("index", "s3:PutObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("certify", "s3:PutObject", "timeline/000000000001.json"),
    ("certify", "s3:DeleteObject", "certificates/2026-11-01T0000Z/000001.json"),
    ("land", "s3:PutObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("land", "s3:GetObject", "state/0123456789abcdef/part-0000.words"),
    ("land", "s3:DeleteObject", "received/0123456789abcdef/a/file.csv"),
    ("reduce", "s3:PutObject", "received/0123456789abcdef/a/file.csv"),
    ("orchestrator", "s3:PutObject", "timeline/000000000001.json"),
    ("orchestrator", "s3:GetObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("orchestrator", "s3:GetObject", "state/0123456789abcdef/part-0000.words"),
    ("lookup", "s3:PutObject", "frontiers/landed/000000000001.json"),
    ("index-worker", "s3:PutObject", "state/0123456789abcdef/part-0000.words"),
    ("index-worker", "s3:PutObject", "timeline/000000000001.json"),
    ("index-worker", "s3:GetObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("aggregate", "s3:PutObject", "timeline/000000000001.json"),
    ("aggregate", "s3:PutObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("aggregate", "s3:GetObject", "state/0123456789abcdef/part-0000.words"),
    ("merge", "s3:PutObject", "loads/daily/2026-11-01T0000Z/000001.json"),
    ("nodes", "s3:PutObject", "certificates/2026-11-01T0000Z/000001.json"),
    ("nodes", "s3:DeleteObject", "state/0123456789abcdef/part-0000.words"),
    ("nodes", "s3:PutObject", "events/2026-11-01T0000Z/manifests/000002.json"),
    *[(who, "s3:DeleteObject", "timeline/000000000001.json") for who in ROLES],
    *[(who, "s3:DeleteObject", "certificates/2026-11-01T0000Z/000001.json") for who in ROLES],
    *[(who, "s3:DeleteObject", "loads/daily/2026-11-01T0000Z/000001.json") for who in ROLES],
    *[(who, "s3:DeleteObject", "events/2026-11-01T0000Z/manifests/000001.json") for who in ROLES],
    *[(who, "s3:DeleteObjectVersion", "state/0123456789abcdef/part-0000.words") for who in ROLES],
]


@pytest.mark.parametrize(("who", "action", "path"), REFUSED)
def test_refused(rules: Rules, who: str, action: str, path: str) -> None:
    assert rules.judge(who, _put(rules, path, action)) is not None


def _put(rules: Rules, path: str, action: str = "s3:PutObject", condition: str | None = "*") -> Call:
    """As the store asks: whole, and only if there is nothing of that name."""
    of_put = {"s3:ObjectCreationOperation": "true", **({"s3:if-none-match": condition} if condition else {})}
    return Call(action, rules.on(path), {"aws:SecureTransport": "true", **(of_put if action == "s3:PutObject" else {})})


@pytest.mark.parametrize(
    ("who", "path"),
    [
        ("merge", "timeline/000000000001.json"),
        ("certify", "certificates/2026-11-01T0000Z/000001.json"),
        ("aggregate", "loads/daily/2026-11-01T0000Z/000001.json"),
    ],
)
def test_history_is_put_only_where_nothing_stands(rules: Rules, who: str, path: str) -> None:
    assert rules.judge(who, _put(rules, path)) is None
    assert "HistoryIsNeverOverwritten" in str(rules.judge(who, _put(rules, path, condition=None)))


def test_nothing_passes_without_tls(rules: Rules, recorded: Recorded) -> None:
    for who in ROLES:
        for call in recorded.of(who):
            if call.action.startswith("s3:") and _of_the_store(call):
                plain = Call(call.action, call.resource, {**call.context, "aws:SecureTransport": "false"})
                assert "OnlyByTls" in str(rules.judge(who, plain))


def test_the_tables_of_others_and_the_stacks_own_are_safe(rules: Rules) -> None:
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{rules.stack.ids['IndexTable']}"
    assert rules.judge("index", Call("dynamodb:DeleteTable", f"{table}-0123456789abcdef")) is None
    for who in ROLES:
        assert rules.judge(who, Call("dynamodb:DeleteTable", table)) is not None
        for action in ("UpdateItem", "CreateTable", "GetItem"):
            assert rules.judge(who, Call(f"dynamodb:{action}", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/another")) is not None
    for who in ("land", "reduce", "prefetch", "merge", "certify", "orchestrator"):
        assert rules.judge(who, Call("dynamodb:UpdateItem", table)) is not None
    assert rules.judge("lookup", Call("dynamodb:UpdateItem", table)) is not None


def test_only_those_who_keep_the_index_start_workers(rules: Rules) -> None:
    invoke = Call("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{rules.stack.outputs['WorkerFunction']}")
    assert {who for who in ROLES if rules.judge(who, invoke) is None} == {"index", "upkeep", "pipeline"}


def test_the_nodes_of_a_cluster_may_do_what_the_engines_stages_did(rules: Rules, recorded: Recorded) -> None:
    """A step is one of these stages, carried out there: all but what the process does that submits it, which has the lease, too."""
    for who in ("reduce", "prefetch", "merge"):
        done = [call for call in recorded.of(who) if _of_the_store(call) and not re.search("/leases/|/steps/", str(call))]
        refused = [why for call in done if (why := rules.judge("nodes", call))]
        assert refused == []
    assert rules.judge("nodes", _put(rules, "steps/0123456789abcdef/answer.json")) is None
    assert (
        rules.judge("nodes", Call("s3:GetObject", rules.on("steps/0123456789abcdef/asked.json"), {"aws:SecureTransport": "true"})) is None
    )


@pytest.mark.parametrize("who", ["reduce", "prefetch", "merge", "pipeline"])
def test_who_is_at_a_stage_of_the_engine_may_submit_it(rules: Rules, who: str) -> None:
    cluster = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/{rules.stack.outputs['ClusterId']}"
    for action in ("AddJobFlowSteps", "DescribeStep", "ListSteps", "CancelSteps", "DescribeCluster"):
        assert rules.judge(who, Call(f"elasticmapreduce:{action}", cluster)) is None
        assert rules.judge(who, Call(f"elasticmapreduce:{action}", cluster + "X")) is not None
        assert rules.judge("certify", Call(f"elasticmapreduce:{action}", cluster)) is not None
    assert rules.judge(who, Call("elasticmapreduce:TerminateJobFlows", cluster)) is not None
    assert rules.judge(who, _put(rules, "steps/0123456789abcdef/asked.json")) is None


def test_keys_are_used_through_s3_only(rules: Rules) -> None:
    through = Call("kms:Decrypt", KEY, {"kms:ViaService": f"s3.{REGION}.amazonaws.com"})
    assert rules.judge("reduce", through) is None
    assert rules.judge("reduce", Call("kms:Decrypt", KEY)) is not None
    assert rules.judge("reduce", Call("kms:ScheduleKeyDeletion", KEY, dict(through.context))) is not None
