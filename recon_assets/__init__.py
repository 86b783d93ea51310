"""What exists: the assets of a reconciliation, their checks and the grid of partitions.

Belongs here: assets as Dagster shows them; each asks the library to do one stage for a range of windows and attaches its figures.
Does not belong here: the work of a stage (recon), where things lie (resources), when and how runs start (jobs).
"""
