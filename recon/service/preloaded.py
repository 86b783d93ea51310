"""What the process has loaded that requests are forked from: loading it takes longer than a small request."""

import duckdb
import formualizer
import pyarrow
import pyarrow.parquet
import sqlalchemy.dialects.sqlite
import xlsxwriter

import recon.service.work

__all__ = ["duckdb", "formualizer", "pyarrow", "recon", "sqlalchemy", "xlsxwriter"]
