"""The logs of a step: where EMR puts them, and the last lines of a log that may be shared.

EMR uploads logs minutes after the step has ended, so they are awaited for a while and may still be missing.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tenacity import Retrying, retry_if_result, stop_after_delay

from recon.storage.aws_calls import Pace, client
from recon.storage.redact import shareable_lines

LINES = 20
_READ_MAX_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_KEPT_LINES = 2_000
_S3 = re.compile(r"s3[an]?://([^/]+)/?(.*)\Z")


@dataclass(frozen=True)
class Logs:
    """A folder of logs in S3, ``s3://bucket/prefix/``, with the files ``stderr`` and ``controller``."""

    folder: str

    @classmethod
    def of_step(cls, log_uri: str | None, cluster: str, step: str) -> Logs | None:
        """None if the cluster keeps no logs."""
        found = _S3.match(log_uri or "")
        prefix = f"{found[2].rstrip('/')}/" if found and found[2] else ""
        return cls(f"s3://{found[1]}/{prefix}{cluster}/steps/{step}/") if found else None

    def awaited(self, pace: Pace, name: str = "stderr") -> list[str]:
        """The last lines of a log that may be shared; empty if the log did not arrive in time or cannot be read."""
        tries = Retrying(
            retry=retry_if_result(lambda lines: lines is None),
            stop=stop_after_delay(pace.logs),
            wait=lambda state: pace.wait_s(state.attempt_number),
            retry_error_callback=lambda state: None,
        )
        lines: list[str] | None = tries(self._lines, name)
        return shareable_lines(lines or [], LINES)

    def _lines(self, name: str) -> list[str] | None:
        """The last lines of ``<name>.gz``; None if there is no such log. A log that cannot be read is no error."""
        bucket, _, prefix = self.folder.removeprefix("s3://").partition("/")
        try:
            body = client("s3").get_object(Bucket=bucket, Key=f"{prefix}{name}.gz")["Body"]
            return list(deque(_unpacked(body), _KEPT_LINES))
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            return (
                None
                if code in ("NoSuchKey", "404", "SlowDown", "503")
                else [f"recon: its logs cannot be read: {type(error).__name__} {code}"]
            )


def _unpacked(body: Any) -> Iterator[str]:
    """The lines of a gzip stream, in bounded memory."""
    unzip, rest, read = zlib.decompressobj(wbits=47), b"", 0
    for chunk in body.iter_chunks(_CHUNK_BYTES):
        read += len(chunk)
        *lines, rest = (rest + unzip.decompress(chunk)).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
        if read > _READ_MAX_BYTES:
            return
    yield rest.decode(errors="replace")
