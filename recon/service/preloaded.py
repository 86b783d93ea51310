"""What the process has loaded that requests are forked from: loading it takes longer than a small request.

pandas is loaded by a function of pyarrow.compute when it is called first."""

import duckdb
import formualizer
import pandas  # type: ignore[import-untyped]
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
import sqlalchemy.dialects.sqlite
import xlsxwriter

import recon.service.work

__all__ = ["duckdb", "formualizer", "pandas", "pyarrow", "recon", "sqlalchemy", "xlsxwriter"]
