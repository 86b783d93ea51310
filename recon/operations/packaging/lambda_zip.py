"""Builds the zips for Lambda: of the index workers, of the record queue's functions, and of the service's interface.

    python -m recon.operations.packaging.lambda_zip --out dist # for this machine: what is installed here
    python -m recon.operations.packaging.lambda_zip --out dist --arch arm64 --python 3.13
    python -m recon.operations.packaging.lambda_zip --of records --with ./process.py --out dist
    python -m recon.operations.packaging.lambda_zip --of service --with ./recon.yaml --out dist

A zip contains the library and what its functions import, in the versions that are installed and tested here. boto3 is part of Lambda's
runtime. DuckDB and Dagster are in none, Arrow is not in that of the index workers: tests run the functions without them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recon.errors import ReconError, WrongUsage
from recon.operations.packaging.wheels import ARCHITECTURES, fetch, here, installed, python_here

ZIP = "recon-index-worker.zip"
HANDLER = "recon.serving.workers.lambda_handler.handler"
UNZIPPED_MAX_BYTES = 250 * 1024 * 1024
"""Lambda's own limit."""
UPLOADED_MAX_BYTES = 50 * 1024 * 1024
"""Of a zip that is uploaded directly; a larger zip is uploaded through S3."""


@dataclass(frozen=True)
class Function:
    """``needed``: third-party packages that it imports, without their own dependencies. ``without``: beginnings of the names of their files
    that it does not need."""

    zip: str
    handler: str
    needed: tuple[str, ...]
    without: tuple[str, ...] = ()


_ARROW = ("pyarrow/libarrow_flight", "pyarrow/_flight", "pyarrow/libarrow_s3", "pyarrow/src/")
_PYDANTIC = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions")
FUNCTIONS = {
    "index": Function(ZIP, HANDLER, ("numpy", "obstore", "PyYAML", "tenacity", *_PYDANTIC)),
    "records": Function(
        "recon-records.zip",
        "recon.intake.queues.aws_handlers.process and its neighbours",
        ("pyarrow", "tenacity"),
        _ARROW,
    ),
    "service": Function(
        "recon-service.zip",
        "recon.web.lambda_handler.handler",
        (
            *("mangum", "fastapi", "starlette", "anyio", "idna", "annotated-doc", "opentelemetry-api"),
            *("itsdangerous", "prometheus-client", "psutil"),
            *("SQLAlchemy", "alembic", "Mako", "MarkupSafe", "psycopg2-binary", "obstore", "sqlglot"),
            *("numpy", "pyarrow", "PyYAML", "tenacity", "tzdata", *_PYDANTIC),
        ),
        _ARROW,
    ),
}

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT_PARTS = {"__pycache__", "tests", "samples", "_pyinstaller", "f2py"}
_LEFT_OUT_SUFFIXES = (".pyc", ".pyi", ".a", ".h", ".pxd", ".pyx", ".pxi")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recon.operations.packaging.lambda_zip",
        description="The zips of Lambda functions.",
    )
    parser.add_argument("--of", choices=sorted(FUNCTIONS), default="index", help="which functions")
    parser.add_argument(
        "--with", dest="own", type=Path, action="append", default=[], metavar="PATH", help="a module or package of your own, or recon.yaml"
    )
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default=here(), help="the function's architecture")
    parser.add_argument("--python", default=python_here(), metavar="3.x", type=_version, help="the function's runtime")
    asked = parser.parse_args(arguments)
    try:
        made, unzipped = package(asked.out, asked.arch, asked.python, FUNCTIONS[asked.of], asked.own)
    except ReconError as error:
        print(f"recon: {error}", file=sys.stderr)
        return error.exit_status
    size, most = made.stat().st_size, UNZIPPED_MAX_BYTES / 1e6
    print(f"wrote {made}: {size / 1e6:.1f} MB, {unzipped / 1e6:.1f} MB unzipped, of {most:.0f} MB at most")
    print(f"next: deploy it for python{asked.python} on {asked.arch} with the handler {FUNCTIONS[asked.of].handler}")
    if size > UPLOADED_MAX_BYTES:
        print("it is too large for a direct upload: put it into a bucket of the same region and name it there")
    return 0


def package(out: Path, arch: str, python: str, function: Function = FUNCTIONS["index"], own: Sequence[Path] = ()) -> tuple[Path, int]:
    """Writes the zip; returns its path and unzipped bytes. The same versions give the same bytes. ``own``: the user's modules.
    Raises WrongUsage if it is too large."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        others = Path(folder)
        if arch == here() and python == python_here() and sys.platform == "linux":
            _copy_installed(others, function)
        else:
            fetch(installed(function.needed), others, arch, python, unpacked=True)
        source = Path(__file__).parents[2]
        files = {f"recon/{name}": source / name for name in _kept(source)}
        files |= {name: others / name for name in _kept(others) if not name.startswith(function.without or ("/",))} | dict(_own(own))
        unzipped = sum(file.stat().st_size for file in files.values())
        if unzipped > UNZIPPED_MAX_BYTES:
            raise WrongUsage(f"{function.zip}: {unzipped} bytes unzipped are more than Lambda takes, {UNZIPPED_MAX_BYTES}")
        made = out / function.zip
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in sorted(files.items()):
                entry = zipfile.ZipInfo(name, _EARLIEST)
                entry.external_attr = 0o644 << 16  # Lambda reads files as another user
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return made, unzipped


def _kept(folder: Path) -> Iterator[str]:
    """Files that are needed at run time: no tests, type stubs or sources of extensions."""
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if file.is_file() and not _LEFT_OUT_PARTS & set(name.parts) and not file.name.endswith(_LEFT_OUT_SUFFIXES):
            yield name.as_posix()


def _own(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name in the zip → file, of the user's own modules. Raises WrongUsage for a path that is not there."""
    for path in paths:
        if path.is_file():
            yield path.name, path
        elif path.is_dir():
            yield from ((f"{path.name}/{name}", path / name) for name in _kept(path))
        else:
            raise WrongUsage(f"--with {path}: no such file or folder; name the module of the function in RECON_PROCESS")


def _copy_installed(folder: Path, function: Function) -> None:
    for package in installed(function.needed):
        for file in package.files or ():
            if ".." not in file.parts:  # commands, which are beside the libraries
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(package.locate_file(file)), target)


def _version(text: str) -> str:
    if not re.fullmatch(r"3\.[0-9]{1,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 3.13")
    return text


if __name__ == "__main__":
    sys.exit(main())
