"""Opens a received file with the converter of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recon.config.settings import Limits
from recon.intake.converters import layouts
from recon.intake.converters.bai2 import BAI2Rows
from recon.intake.converters.camt053 import Camt053Rows
from recon.intake.converters.dbase import DBaseRows
from recon.intake.converters.delimited import DelimitedRows
from recon.intake.converters.fixed import FixedRows
from recon.intake.converters.jsonrows import JsonLineRows, JsonRows
from recon.intake.converters.mt940 import MT940Rows
from recon.intake.converters.nacha import NachaRows
from recon.intake.converters.parquetrows import ParquetRows
from recon.intake.converters.port import Conversion, Received
from recon.intake.converters.sheets import SheetRows


def open_conversion(
    received: Received,
    layout: layouts.AnyLayout,
    declared: Sequence[str] | None,
    limits: Limits,
    errors: bool = False,
    scratch: Path | None = None,
) -> Conversion:
    """``declared``: without a header the columns of the file, in order; with one (or where the format names the columns) those that must be
    there, each once; None asks for nothing. ``errors``: whether an error cell of a sheet is its text, such as #N/A, and no problem.
    ``scratch``: a folder for rows that wait for their control total; None for the system's temporary folder.

    Raises WrongInput, naming the file and the place, for a file that can't be read so, and WrongUsage where ``declared`` is needed
    and None."""
    match layout:
        case layouts.Delimited():
            return DelimitedRows(received, layout, declared, limits)
        case layouts.Fixed():
            return FixedRows(received, layout, declared, limits)
        case layouts.Nacha():
            return NachaRows(received, declared, limits)
        case layouts.Sheet():
            return SheetRows(received, layout, declared, limits, errors)
        case layouts.Json():
            return JsonRows(received, layout, declared, limits)
        case layouts.JsonLines():
            return JsonLineRows(received, declared, limits)
        case layouts.Parquet():
            return ParquetRows(received, declared, limits)
        case layouts.DBase():
            return DBaseRows(received, layout, declared, limits)
        case layouts.MT940():
            return MT940Rows(received, declared, limits, scratch)
        case layouts.Camt053():
            return Camt053Rows(received, declared, limits, scratch)
        case layouts.BAI2():
            return BAI2Rows(received, declared, limits, scratch)
