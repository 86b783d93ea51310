"""The embedded engine: one DuckDB connection per stage; data goes in and out as Arrow tables and Parquet files."""
