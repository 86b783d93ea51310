"""Builds the zip for the Lambda function of index workers.

    python -m recon.operations.packaging.lambda_zip --out dist # for this machine: what is installed here
    python -m recon.operations.packaging.lambda_zip --out dist --arch arm64 --python 3.13

The zip contains the library and the worker's imports, in the versions that are installed and tested here. boto3 is part of Lambda's
runtime. Arrow, DuckDB and Dagster are not in the zip: a test runs the worker without them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution
from pathlib import Path

from recon.errors import ReconError, WrongUsage
from recon.operations.packaging.wheels import ARCHITECTURES, fetch, here, installed, python_here

ZIP = "recon-index-worker.zip"
HANDLER = "recon.serving.workers.lambda_handler.handler"
UNZIPPED_MAX_BYTES = 250 * 1024 * 1024
"""Lambda's own limit."""
UPLOADED_MAX_BYTES = 50 * 1024 * 1024
"""Of a zip that is uploaded directly; a larger zip is uploaded through S3."""
NEEDED = ("numpy", "obstore", "pydantic", "PyYAML", "tenacity", "typing-extensions")
"""Third-party packages that the worker imports, without their own dependencies."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT_PARTS = {"__pycache__", "tests", "samples", "_pyinstaller", "f2py"}
_LEFT_OUT_SUFFIXES = (".pyc", ".pyi", ".a", ".h", ".pxd")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recon.operations.packaging.lambda_zip", description="The zip of the index worker's Lambda function."
    )
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default=here(), help="the function's architecture")
    parser.add_argument("--python", default=python_here(), metavar="3.x", type=_version, help="the function's runtime")
    asked = parser.parse_args(arguments)
    try:
        made, unzipped = package(asked.out, asked.arch, asked.python)
    except ReconError as error:
        print(f"recon: {error}", file=sys.stderr)
        return error.exit_status
    size, most = made.stat().st_size, UNZIPPED_MAX_BYTES / 1e6
    print(f"wrote {made}: {size / 1e6:.1f} MB, {unzipped / 1e6:.1f} MB unzipped, of {most:.0f} MB at most")
    print(f"next: deploy it for python{asked.python} on {asked.arch} with the handler {HANDLER}")
    if size > UPLOADED_MAX_BYTES:
        print("it is too large for a direct upload: put it into a bucket of the same region and name it there")
    return 0


def package(out: Path, arch: str, python: str) -> tuple[Path, int]:
    """Writes the zip; returns its path and unzipped bytes. The same versions give the same bytes. Raises WrongUsage if it is too large."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        others = Path(folder)
        if arch == here() and python == python_here() and sys.platform == "linux":
            _copy_installed(others)
        else:
            fetch(_distributions(), others, arch, python, unpacked=True)
        source = Path(__file__).parents[2]
        files = {f"recon/{name}": source / name for name in _kept(source)} | {name: others / name for name in _kept(others)}
        unzipped = sum(file.stat().st_size for file in files.values())
        if unzipped > UNZIPPED_MAX_BYTES:
            raise WrongUsage(f"{ZIP}: {unzipped} bytes unzipped are more than Lambda takes, {UNZIPPED_MAX_BYTES}")
        made = out / ZIP
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


def _copy_installed(folder: Path) -> None:
    for package in _distributions():
        for file in package.files or ():
            if ".." not in file.parts:  # commands, which are beside the libraries
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(package.locate_file(file)), target)


def _distributions() -> list[Distribution]:
    """Third-party packages in the zip, with their dependencies."""
    return installed([*NEEDED, "pydantic-core", "annotated-types", "typing-inspection"])


def _version(text: str) -> str:
    if not re.fullmatch(r"3\.[0-9]{1,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 3.13")
    return text


if __name__ == "__main__":
    sys.exit(main())
