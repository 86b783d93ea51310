"""The operations, one module a family. Each checks itself against the tables' columns and gives the SQL of its table."""
