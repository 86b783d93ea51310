"""The folder of the sources, beside a configuration."""

from __future__ import annotations

from recon.config.model import Place

FOLDER = "sources"


def has_sources(place: Place) -> bool:
    """Whether there are files of ``sources/`` beside a configuration; some may feed other reconciliations."""
    return any((place.path.parent / FOLDER).glob("*.yaml"))
