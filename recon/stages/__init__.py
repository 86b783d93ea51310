"""The six stages of a range: land, reduce, pre-fetch, merge, index, certify; and the loop that takes every due window through them.

A stage takes a ``Work`` and windows and yields a ``WindowResult`` per window; repeated, it finds its work done. How records are computed
belongs to ``recon.engines``; which windows are due, to ``recon.planning``.
"""
