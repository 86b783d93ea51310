"""Judges what is submitted before it is stored: JSON, the form of a transformation, the places that it names, the size of its inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.config.service import Rights
from recon.config.yaml_file import File
from recon.errors import WrongUsage
from recon.service.paths import Places
from recon.service.submissions import CERTIFICATE, UPLOAD, Holder, LaneName, Problem, Refused, problem_in
from recon.transformations.request.files import S3
from recon.transformations.request.model import Request
from recon.transformations.run import request_in

BODY_MAX = 1_000_000
DEPTH_MAX = 20
OF_THE_SERVICE = ("engine", "spark", "memory_limit", "certificate")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_HALF = re.compile(r"[\ud800-\udfff]")
Uploaded = Callable[[str, str], int | None]
"""Owner and name of an upload → its bytes; None where there is none."""


@dataclass(frozen=True)
class Admitted:
    """A request that may be stored. ``body``: its JSON. ``size``: bytes of its inputs. ``uploads``: those that it reads."""

    body: str
    request: Request
    size: int
    lane: LaneName
    uploads: Sequence[str]


def admitted(holder: Holder, body: bytes, rights: Rights, small_up_to: int, uploaded: Uploaded) -> Admitted:
    """Judges a request. Raises Refused."""
    content = parsed(body)
    request = request_of(content)
    places, size, uploads = Places(rights), 0, list[str]()
    for name, given in request.inputs.items():
        if given.from_ is not None and not holder.has("read-all"):
            raise Refused(Problem("not-permitted", field=f"inputs.{name}.from"), f"inputs.{name}: {given.shown} needs the role read-all")
        for path in given.path:
            try:
                size += _upload_size(holder.owner, path, uploaded) if path.startswith(UPLOAD) else places.size(path)
            except Refused as error:
                raise Refused(Problem(error.problem.code, field=f"inputs.{name}.path"), f"inputs.{name}.path: {error}") from None
            if path.startswith(UPLOAD):
                uploads.append(path.removeprefix(UPLOAD))
    if size > rights.bytes:
        raise Refused(Problem("too-large", field="inputs"), f"the inputs have {size:,} bytes; {holder.owner} may read {rights.bytes:,}")
    _refuse_outputs(request, places)
    return Admitted(_written(content), request, size, "small" if size <= small_up_to else "large", tuple(dict.fromkeys(uploads)))


def canonical(body: bytes) -> str:
    """The text by which a body is compared with that of an earlier request. Raises Refused."""
    return _written(parsed(body))


def _written(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; its numbers stay texts, so that they keep their digits. Raises Refused."""
    if len(body) > BODY_MAX:
        raise Refused(Problem("too-large"), f"the body has {len(body):,} bytes; at most {BODY_MAX:,} are taken")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _no_json(f"byte {error.start} is no UTF-8") from None
    if (depth := _depth(text)) > DEPTH_MAX:
        raise _no_json(f"it is nested {depth} deep; at most {DEPTH_MAX}")
    try:
        content = json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except ValueError as error:
        raise _no_json(str(error)) from None
    if not isinstance(content, dict):
        raise _no_json("it is no object")
    if _HALF.search(json.dumps(content, ensure_ascii=False)):
        raise _no_json("a text has half a surrogate pair, which is no character")
    return content


def request_of(content: dict[str, Any]) -> Request:
    """The transformation. Raises Refused for what is no transformation, and for what the service chooses itself."""
    for name in OF_THE_SERVICE:
        if name in content:
            raise Refused(Problem("not-offered", field=name), f"{name}: the service chooses it; leave it out")
    try:
        return request_in(File(Path("request"), content, {}))
    except WrongUsage as error:
        reason = str(error).removeprefix("request: ")
        raise Refused(problem_in(reason, "wrong-request"), reason) from None


def refuse_local(request: Request) -> None:
    """Raises Refused for an input that a cluster does not see."""
    for name, given in request.inputs.items():
        for path in given.path:
            if not path.startswith((UPLOAD, S3)):
                field = f"inputs.{name}.path"
                reason = (
                    f"{field}: {path} lies in a folder; a cluster carries out requests of this size, and it reads S3: copy the file there"
                )
                raise Refused(Problem("not-permitted", field=field), reason)


def _refuse_outputs(request: Request, places: Places) -> None:
    seen = {CERTIFICATE}
    for number, output in enumerate(request.outputs):
        field = f"outputs[{number}].path"
        name = output.path.rpartition("/")[2]
        if not _NAME.match(name):
            reason = f"{field}: {name!r} is no name; write up to 100 letters, digits, '.', '_' and '-'"
            raise Refused(Problem("wrong-request", field=field), reason)
        if "/" in output.path:
            try:
                places.refuse_unwritable(output.path)
            except Refused as error:
                raise Refused(Problem(error.problem.code, field=field), f"{field}: {error}") from None
        for file in (name, f"{name}.rejects.csv"):
            if file.casefold() in seen:
                raise Refused(Problem("wrong-request", field=field), f"{field}: two results would have the name {file}; rename one")
            seen.add(file.casefold())


def _upload_size(owner: str, path: str, uploaded: Uploaded) -> int:
    size = uploaded(owner, path.removeprefix(UPLOAD))
    if size is None:
        raise Refused(Problem("no-such-input"), f"{path} is not there; upload the file first")
    return size


def _depth(text: str) -> int:
    """How deep brackets are nested, outside of strings; counted, since a parser that recurses must not see what is deeper."""
    depth = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} is there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _no_json(reason: str) -> Refused:
    return Refused(Problem("wrong-request"), f"the body is not JSON: {reason}")
