"""Runs of aggregations: claimed once, carried out on the versions that were evaluated, and ended whatever happens to their process."""
