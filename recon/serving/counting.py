"""Counting what a client of boto3 asks: every try by itself, with the bytes of its bodies.

Belongs here: boto3's hooks. Does not belong here: keeping the counts (recon.usage).
"""

from __future__ import annotations

import threading
from typing import Any

from recon.metering import Meter


def count_requests(client: Any, meter: Meter) -> None:
    """Has ``client`` (boto3's low-level client of any service) tell ``meter`` of each request, named as its API names the operation."""
    service = client.meta.service_model.service_name
    asking = threading.local()  # a request and its answer are of one thread

    def before_send(request: Any, **_: Any) -> None:
        body = request.body
        asking.sent = len(body) if isinstance(body, bytes | bytearray | str) else 0

    def response_received(response_dict: dict[str, Any] | None, context: Any = None, **told: Any) -> None:
        received = len((response_dict or {}).get("body") or b"")
        operation = str(told["event_name"]).rpartition(".")[2]
        meter.count(service, operation, getattr(asking, "sent", 0), received)

    client.meta.events.register(f"before-send.{service}", before_send)
    client.meta.events.register(f"response-received.{service}", response_received)
