"""A reconciliation as Dagster shows it: its assets, their checks, and the grid of partitions.

Each asset calls one stage of ``recon`` for a range of windows and attaches the stage's figures as metadata. Stores, engines and caches are
in ``resources``; ``jobs`` decides when and how runs start.
"""
