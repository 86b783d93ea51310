"""What is asked of AWS, by whom: a proxy on the loopback that reads each request, lets the role's policies judge it, and passes it on.

Who asks is known by the access key, which a profile of the role's name brings along. What passes is signed anew for the server behind.
A request that is refused gets the answer that AWS gives, so that a stage ends as it would there.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from http_requests import Asked, read_request
from iam import Call

REGION = "us-east-1"
ACCOUNT = "123456789012"
WORKGROUP = "recon-warehouse"

_BY_ACCESS_KEY = re.compile(r"Credential=([^/,]+)/")
_HOP = {"connection", "transfer-encoding", "authorization", "x-amz-security-token", "host", "content-length", "expect"}
_S3_DENIED = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
_JSON_DENIED = b'{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not authorized"}'


@dataclass
class Recorded:
    """Calls by role, and those that its policies refuse."""

    refused: list[str] = field(default_factory=list)
    made: dict[str, dict[str, Call]] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, who: str, call: Call) -> None:
        with self.turn:
            self.made.setdefault(who, {})[str(call)] = call

    def of(self, who: str) -> list[Call]:
        return list(self.made.get(who, {}).values())


Judge = Callable[[str, Call], str | None]
"""Role, call → why it is refused."""


def s3_calls(asked: Asked, key_arn: str) -> list[Call]:
    """What IAM judges of a request to S3 by path, objects encrypted by ``key_arn``. Raises ValueError for one that is not known here."""
    bucket, _, key = asked.path.lstrip("/").partition("/")
    arn, query = f"arn:aws:s3:::{bucket}", asked.parameters
    tls = {"aws:SecureTransport": "true"}  # as it is with AWS itself; here all is on the loopback
    if not key:
        if asked.method == "GET" and query.get("list-type") == "2":
            return [Call("s3:ListBucket", arn, {**tls, **({"s3:prefix": query["prefix"]} if "prefix" in query else {})})]
        raise ValueError(f"{asked.method} {asked.path} {query}: not known here")
    of_key = f"{arn}/{key}"
    through = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
    reads, writes = Call("kms:Decrypt", key_arn, through), Call("kms:GenerateDataKey", key_arn, through)
    condition = {"s3:if-none-match": asked.headers["if-none-match"]} if "if-none-match" in asked.headers else {}
    whole, part = {**tls, **condition, "s3:ObjectCreationOperation": "true"}, {**tls, "s3:ObjectCreationOperation": "false"}
    match asked.method, "uploadId" in query, "uploads" in query:
        case "GET" | "HEAD", False, False:
            return [Call("s3:GetObject", of_key, tls), reads]
        case "PUT", False, False:
            return [Call("s3:PutObject", of_key, whole), writes]
        case "POST", False, True:
            return [Call("s3:PutObject", of_key, part), writes]
        case "PUT", True, False:
            return [Call("s3:PutObject", of_key, part), writes, reads]
        case "POST", True, False:
            return [Call("s3:PutObject", of_key, whole), reads]
        case "DELETE", True, False:
            return [Call("s3:AbortMultipartUpload", of_key, tls)]
        case "DELETE", False, False:
            return [Call("s3:DeleteObject", of_key, tls)]
    raise ValueError(f"{asked.method} {asked.path} {query}: not known here")


def dynamodb_calls(asked: Asked) -> list[Call]:
    """What IAM judges of a request to DynamoDB."""
    action = asked.headers["x-amz-target"].partition(".")[2]
    body = json.loads(asked.body)
    tables = list(body["RequestItems"]) if "RequestItems" in body else [body["TableName"]]
    return [Call(f"dynamodb:{action}", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}") for table in tables]


def emr_calls(asked: Asked) -> list[Call]:
    """What IAM judges of a request about a cluster of EMR that is there."""
    body = json.loads(asked.body)
    action = asked.headers["x-amz-target"].partition(".")[2]
    of = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster"
    if action == "RunJobFlow":
        return [Call("elasticmapreduce:RunJobFlow", f"{of}/*", {f"aws:RequestTag/{one['Key']}": one["Value"] for one in body["Tags"]})]
    named = body["JobFlowIds"] if "JobFlowIds" in body else [body.get("JobFlowId") or body["ClusterId"]]
    # A cluster that recon has started has its tag.
    return [Call(f"elasticmapreduce:{action}", f"{of}/{one}", {"aws:ResourceTag/recon": "orders"}) for one in named]


def serverless_calls(asked: Asked) -> list[Call]:
    """What IAM judges of a request about jobs of EMR Serverless."""
    match asked.method, asked.path.strip("/").split("/"):
        case "POST", ["applications", application, "jobruns"]:
            action, path = "StartJobRun", f"/applications/{application}"
        case "GET", ["applications", application, "jobruns"]:
            action, path = "ListJobRuns", f"/applications/{application}"
        case "GET" | "DELETE" as method, ["applications", application, "jobruns", job]:
            action, path = ("GetJobRun" if method == "GET" else "CancelJobRun"), f"/applications/{application}/jobruns/{job}"
        case _:
            raise ValueError(f"{asked.method} {asked.path}: not known here")
    return [Call(f"emr-serverless:{action}", f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:{path}")]


def lambda_calls(asked: Asked) -> list[Call]:
    """What IAM judges of an invocation."""
    function = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", asked.path)
    if function is None:
        raise ValueError(f"{asked.path}: not known here")
    return [Call("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function[1]}")]


def cloudwatch_calls(asked: Asked) -> list[Call]:
    """What IAM judges of figures that are put."""
    action, body = asked.headers["x-amz-target"].partition(".")[2], json.loads(asked.body)
    alarm = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm"
    if action == "DescribeAlarmsForMetric":
        return [Call("cloudwatch:DescribeAlarmsForMetric", f"{alarm}:*")]
    if "Alarm" in action:
        return [Call(f"cloudwatch:{action}", f"{alarm}:{name}") for name in body.get("AlarmNames", [body.get("AlarmName")])]
    return [Call(f"cloudwatch:{action}", "*", {"cloudwatch:namespace": str(body["Namespace"])})]


def redshift_calls(asked: Asked) -> list[Call]:
    """What IAM judges of a request to the Data API, with a statement of the caller's own and a session of the stack's workgroup."""
    action = asked.headers["x-amz-target"].partition(".")[2]
    if action != "ExecuteStatement":
        return [Call(f"redshift-data:{action}", "*", {"redshift-data:statement-owner-iam-userid": "${aws:userid}"})]
    body = json.loads(asked.body)
    workgroup = f"arn:aws:redshift-serverless:{REGION}:{ACCOUNT}:workgroup/{body.get('WorkgroupName', WORKGROUP)}"
    comes_as_itself = [] if "SecretArn" in body or "SessionId" in body else [Call("redshift-serverless:GetCredentials", workgroup)]
    return [Call("redshift-data:ExecuteStatement", workgroup), *comes_as_itself]


def sqs_calls(asked: Asked) -> list[Call]:
    """What IAM judges of a request about a queue."""
    action, body = asked.headers["x-amz-target"].partition(".")[2], json.loads(asked.body)
    name = body["QueueName"] if action == "GetQueueUrl" else body["QueueUrl"].rpartition("/")[2]
    # A batch needs the permission of its single form.
    return [Call(f"sqs:{action.removesuffix('Batch')}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")]


OTHERS = {
    "sqs": sqs_calls,
    "redshift-data": redshift_calls,
    "elasticmapreduce": emr_calls,
    "emr-serverless": serverless_calls,
    "lambda": lambda_calls,
    "monitoring": cloudwatch_calls,
    "dynamodb": dynamodb_calls,
}
"""Services beside S3, as they sign, and how their requests are read."""


@contextmanager
def proxy(upstream: str, service: str, judge: Judge, key_arn: str, credentials: tuple[str, str], recorded: Recorded) -> Iterator[str]:
    """The address of a proxy to ``upstream``, which is S3 or one of OTHERS (``service``) and knows ``credentials``."""
    handler = type("Handler", (_Handler,), {"told": (upstream, service, judge, key_arn, credentials, recorded)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    told: tuple[str, str, Judge, str, tuple[str, str], Recorded]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        upstream, service, judge, key_arn, credentials, recorded = self.told
        asked = read_request(self)
        calls = s3_calls(asked, key_arn) if service == "s3" else OTHERS[service](asked)
        if not self._allowed(asked, calls, judge, recorded):
            return self._send(403 if service == "s3" else 400, {}, b"" if asked.method == "HEAD" else self._denied(service))
        status, answered, content = _passed_on(upstream, service, credentials, self.path, asked)
        if service == "s3" and status == 404:
            # S3 tells that an object is not there only to those who may list the bucket; to others it is forbidden.
            seen = [Call("s3:ListBucket", calls[0].resource.partition("/")[0], {"aws:SecureTransport": "true"})]
            if not self._allowed(asked, seen, judge, recorded):
                return self._send(403, {}, b"" if asked.method == "HEAD" else _S3_DENIED)
        return self._send(status, answered, content, asked.method == "HEAD")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    @staticmethod
    def _denied(service: str) -> bytes:
        return _S3_DENIED if service == "s3" else _JSON_DENIED

    @staticmethod
    def _allowed(asked: Asked, calls: list[Call], judge: Judge, recorded: Recorded) -> bool:
        signed = _BY_ACCESS_KEY.search(asked.headers.get("authorization", ""))
        who, found = signed[1] if signed else "nobody", []
        for call in calls:
            recorded.add(who, call)
            if (why := judge(who, call)) is not None:
                found.append(f"{who}: {why}")
        with recorded.turn:
            recorded.refused += found
        return not found

    def _send(self, status: int, headers: Mapping[str, str], content: bytes, of_head: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP or (of_head and name.lower() == "content-length"):
                self.send_header(name, value)
        if not of_head and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if content and not of_head:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: what is asked is recorded."""


def _passed_on(upstream: str, service: str, credentials: tuple[str, str], path: str, asked: Asked) -> tuple[int, dict[str, str], bytes]:
    """The request, signed with the server's own credentials, and its answer."""
    headers = {name: value for name, value in asked.headers.items() if name not in _HOP}
    signed = AWSRequest(method=asked.method, url=upstream + path, headers=headers, data=asked.body)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(Credentials(*credentials), service, REGION).add_auth(signed)
    host = urlsplit(upstream)
    connection = HTTPConnection(host.hostname or "", host.port or 80, timeout=60)
    try:
        connection.request(asked.method, path, asked.body, dict(signed.headers.items()))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()
