"""Reads landed files as typed events: ``inspect`` when a file is landed, ``load_events`` when its window is reduced."""

from recon.intake.files.inspect import inspect
from recon.intake.files.load import load_events
from recon.intake.files.spec import EventSpec, FileRows, SourceFile, spec_of
from recon.model.key import key_text

__all__ = ["EventSpec", "FileRows", "SourceFile", "inspect", "key_text", "load_events", "spec_of"]
