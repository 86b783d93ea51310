"""Serving copies: what others look keys up in, loaded from the runs. No stage's correctness rests on them.

Belongs here: the index table (items, shares, loading, look-ups), its workers, caches. Does not belong here: the runs, which are the truth
(recon.state.runs). What was decided: docs/decisions/012-serving-index.md.
"""
