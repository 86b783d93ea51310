"""The embedded engine: one DuckDB connection per stage, Arrow at every border."""
