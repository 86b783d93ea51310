"""The warehouse: a DuckDB file, PostgreSQL or Redshift; tables with one row per key, and a ledger of what was loaded into them.

A *load* replaces the rows of one scope by new ones, in one transaction with its entry in the ledger.
"""
