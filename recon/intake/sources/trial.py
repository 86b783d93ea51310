"""Tries a source on a file without writing anything: ``recon source try``."""

from __future__ import annotations

import dataclasses
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recon.errors import WrongInput, WrongUsage
from recon.intake.converters.decoding import propose_encoding
from recon.intake.converters.port import Received
from recon.intake.converters.unpacking import ARCHIVES
from recon.intake.sources.convert import Converted, convert
from recon.intake.sources.details import rejected_rows
from recon.intake.sources.inbox import stamp_of
from recon.intake.sources.load import Source, source_of
from recon.intake.sources.site import Intake
from recon.intake.sources.window import window_of
from recon.model.windows import name_of
from recon.storage import parquet
from recon.storage.scratch import file_digest


def attempt(intake: Intake, path: Path, name: str | None, rows: int) -> dict[str, Any]:
    """The figures of converting a file, with its first clean rows and rejects (``rows`` of each), its window and why it would be rejected
    (``fault``). Raises WrongUsage where no source fits, WrongInput for a file that can't be read."""
    stamp_of(path)
    if path.suffix.lower() in ARCHIVES:
        raise WrongUsage(f"{path}: this is an archive; unpack it, and try one of its files")
    source = _chosen(intake, path.name, name)
    with tempfile.TemporaryDirectory(prefix="recon-try-") as folder:
        made = _converted(intake, source, path, Path(folder))
        window, fault = None, made.fault
        try:
            window = name_of(window_of(intake.config.grid, source, path.name, datetime.now(UTC), made.windows))
        except WrongInput as error:
            fault = fault or str(error).removeprefix(f"{path.name}: ")
        first = next(iter(parquet.open_file(made.clean).iter_batches(rows)), None)
        return {
            "file": path.name,
            "source": source.name,
            "window": window,
            "fault": fault,
            **dataclasses.asdict(made.figures),
            "first": [] if first is None else first.rename_columns(["line", *source.kept]).to_pylist(),
            "rejects": rejected_rows(made.rejects)[:rows],
        }


def _converted(intake: Intake, source: Source, path: Path, folder: Path) -> Converted:
    """The converted file. An error of a file that does not decode proposes an encoding, which a person should confirm."""
    declared = getattr(source.section.layout, "encoding", None)
    try:
        return convert(intake.config, source, Received(path.name, path), file_digest(path), folder)
    except WrongInput as error:
        proposed = propose_encoding(path) if declared is not None and "byte" in str(error) else None
        if proposed is None or proposed == declared:
            raise
        raise WrongInput(f"{error}; it looks like encoding: {proposed}") from None


def _chosen(intake: Intake, file: str, name: str | None) -> Source:
    source = intake.source(name, f"--source {name}") if name is not None else source_of(intake.sources, file)
    if source is None and intake.broken:
        raise next(iter(intake.broken.values()))  # the file may be its
    if source is None or source.match(file) is None:
        patterns = ", ".join(text for known in intake.sources.values() for text in known.section.files)
        raise WrongUsage(f"{file}: the name matches no source's pattern; the patterns are {patterns or 'none: see docs/intake.md'}")
    return source
