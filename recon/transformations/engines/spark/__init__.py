"""Spark as the engine of transformations: it cuts relations and moves rows; in its tasks DuckDB carries out the very statements that it
carries out on one machine."""
