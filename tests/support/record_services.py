"""Record queues for tests: the embedded queue and SQS, the SQL store and DynamoDB, behind the same two ports.

What the stack makes on AWS is made here by calls: queues with their redrive policy, the table with its index and its stream.
"""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import boto3
import seaweed
from botocore.exceptions import ClientError

from recon.intake.queues.aws_queue import SqsQueue
from recon.intake.queues.aws_store import DEAD, parcel_inserted
from recon.intake.queues.port import TRIES, Queue


def sqs_queue(client: Any, visibility_s: int) -> SqsQueue:
    """A new queue with its queue of dead letters."""
    name = f"records-{uuid.uuid4().hex[:12]}"
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": TRIES})
    attributes = {"VisibilityTimeout": str(visibility_s), "RedrivePolicy": redrive}
    return SqsQueue(client, client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], dead)


def dynamodb(endpoint: str, service: str = "dynamodb") -> Any:
    """A client of DynamoDB Local."""
    known = {"aws_access_key_id": seaweed.KEY, "aws_secret_access_key": seaweed.SECRET, "region_name": "us-east-1"}
    return boto3.client(service, endpoint_url=endpoint, **known)


def records_table(client: Any) -> str:
    """A new table of records."""
    name = f"records-{uuid.uuid4().hex[:12]}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in ("file", "at", "dead", "place")],
        KeySchema=[{"AttributeName": "file", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": DEAD,
                "KeySchema": [{"AttributeName": "dead", "KeyType": "HASH"}, {"AttributeName": "place", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    return name


class Stream:
    """Passes what a table's stream has on to the process queue, as the event source mapping and the pass step do: INSERTs of parcels."""

    def __init__(self, endpoint: str, table: str, queue: Queue) -> None:
        self._client, self._queue = dynamodb(endpoint, "dynamodbstreams"), queue
        self._stream = dynamodb(endpoint).describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._iterators: dict[str, str | None] = {}
        self.events: list[tuple[str, str]] = []

    def pump(self) -> int:
        """Passes on what is new; how many messages."""
        bodies = [parcel.body() for one in self.take() if (parcel := parcel_inserted(one["dynamodb"]["NewImage"])) is not None]
        self._queue.send(bodies)
        return len(bodies)

    def take(self) -> list[dict[str, Any]]:
        """The INSERTs of parcels that are new in the stream, as the mapping's filter lets them through."""
        found = []
        for shard in self._client.describe_stream(StreamArn=self._stream)["StreamDescription"]["Shards"]:
            name = shard["ShardId"]
            if name not in self._iterators:
                first = self._client.get_shard_iterator(StreamArn=self._stream, ShardId=name, ShardIteratorType="TRIM_HORIZON")
                self._iterators[name] = first["ShardIterator"]
            while (iterator := self._iterators[name]) is not None:
                page = self._client.get_records(ShardIterator=iterator)
                self._iterators[name] = page.get("NextShardIterator")
                found += page["Records"]
                if not page["Records"]:
                    break
        self.events += [(one["eventName"], one["dynamodb"]["Keys"]["at"]["S"].split("#")[0]) for one in found]
        return [one for one in found if one["eventName"] == "INSERT" and one["dynamodb"]["Keys"]["at"]["S"].startswith("in#")]


class Throttling:
    """A client of DynamoDB that leaves parts of batches unprocessed and refuses some requests, as a table with too much to do does."""

    def __init__(self, client: Any, choose: random.Random) -> None:
        self._client, self._choose = client, choose
        self.refused = 0

    def __getattr__(self, operation: str) -> Any:
        call = getattr(self._client, operation)

        def throttled(**given: Any) -> Any:
            if self._choose.random() < 0.1:
                self.refused += 1
                raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, operation)
            if operation == "batch_write_item" and self._choose.random() < 0.5:
                ((table, items),) = given["RequestItems"].items()
                done = self._choose.randint(0, len(items) - 1)
                self.refused += len(items) - done
                if done:
                    call(RequestItems={table: items[:done]})
                return {"UnprocessedItems": {table: items[done:]}}
            return call(**given)

        return throttled
