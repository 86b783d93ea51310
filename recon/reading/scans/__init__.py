"""Streams of artifacts, events, rejected rows and certificates at one commit, for DuckDB, Polars, pandas and other readers of Arrow.

``scan`` is the lazy object; ``artifacts``, ``events``, ``rejects`` and ``certificates`` each have a schema and yield record batches;
``selection`` is what a scan was asked for. Whole tables and files for people are made in ``recon.reading`` itself.
"""
