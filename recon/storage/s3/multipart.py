"""Multipart uploads: a few parts at a time; the completion, a conditional put, makes the object visible.

obstore has no condition for the completion of an upload, so these requests are boto3's. If the process dies, the bucket's lifecycle rule
removes the parts.
"""

from __future__ import annotations

import base64
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from recon.errors import ReconError
from recon.storage.s3.requests import Refused, Requests
from recon.storage.s3.session import Session

PART_BYTES = 16 << 20
"""Smaller objects are put by one request; S3's minimum for a part is 5 MiB."""
GROWS_EVERY = 1000
"""The part size doubles after each thousand parts, since S3 allows at most 10,000 parts."""
AT_ONCE = 4


def cut(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in parts: all but the last of full length, none empty."""
    buffer, number = bytearray(), 0
    for chunk in chunks:
        rest = memoryview(chunk).cast("B")
        while len(rest):
            length = PART_BYTES << number // GROWS_EVERY
            taken = rest[: length - len(buffer)]
            buffer += taken
            rest = rest[len(taken) :]
            if len(buffer) == length:
                yield bytes(buffer)
                buffer.clear()
                number += 1
    if buffer:
        yield bytes(buffer)


def put(requests: Requests, key: str, parts: Iterable[bytes], metadata: Mapping[str, str]) -> int:
    """Creates the object and returns its size in bytes. Raises Refused where it exists, or the completion succeeded before."""
    place = {"Bucket": requests.location.bucket, "Key": key}
    options = {**place, "Metadata": dict(metadata), "ChecksumAlgorithm": "CRC32", **_encryption(requests)}
    started = requests.send("CreateMultipartUpload", key, lambda session: session.client.create_multipart_upload(**options))
    upload = {**place, "UploadId": started["UploadId"]}
    try:
        uploaded, size = _upload(requests, key, parts, upload)
        completion = {**upload, "MultipartUpload": {"Parts": uploaded}, "MpuObjectSize": size, "IfNoneMatch": "*"}
        requests.send("CompleteMultipartUpload", key, lambda session: session.client.complete_multipart_upload(**completion))
    except BaseException:
        # A completed upload no longer exists.
        with suppress(Refused, ReconError):
            requests.send("AbortMultipartUpload", key, lambda session: session.client.abort_multipart_upload(**upload))
        raise
    return size


def _upload(requests: Requests, key: str, parts: Iterable[bytes], upload: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The parts as the completion names them, and their size in bytes. Memory holds AT_ONCE parts and the next."""
    uploaded: list[dict[str, Any]] = []
    waiting: deque[Future[dict[str, Any]]] = deque()
    size = 0
    with ThreadPoolExecutor(AT_ONCE) as writers:
        try:
            for number, part in enumerate(parts, 1):
                if len(waiting) == AT_ONCE:
                    uploaded.append(waiting.popleft().result())
                waiting.append(writers.submit(_upload_part, requests, key, upload, number, part))
                size += len(part)
            uploaded += [part.result() for part in waiting]
        except BaseException:
            writers.shutdown(wait=False, cancel_futures=True)
            raise
    return uploaded, size


def _upload_part(requests: Requests, key: str, upload: Mapping[str, Any], number: int, part: bytes) -> dict[str, Any]:
    checksum = base64.b64encode(zlib.crc32(part).to_bytes(4, "big")).decode()
    sent = {**upload, "PartNumber": number, "Body": part, "ChecksumCRC32": checksum}

    def put_part(session: Session) -> str:
        return str(session.client.upload_part(**sent)["ETag"])

    tag = requests.send("UploadPart", key, put_part, sent=len(part))
    return {"PartNumber": number, "ETag": tag, "ChecksumCRC32": checksum}


def _encryption(requests: Requests) -> dict[str, Any]:
    key = requests.settings.kms_key
    return {} if key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key, "BucketKeyEnabled": True}
