"""Reads received files of many formats as rows of exact text: one module a format.

``port`` says what a converter gives, ``layouts`` what a source declares of a format. Which columns a source uses, how they are cleaned and
checked, and what becomes of a file belong to the sources; CSV, JSON lines and Parquet are read by ``recon.intake.files``.
"""

from recon.intake.converters.layouts import Layout
from recon.intake.converters.port import DELETED, Control, Conversion, Received

__all__ = ["DELETED", "Control", "Conversion", "Layout", "Received"]
