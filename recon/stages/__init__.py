"""The stages of a range: land, reduce, pre-fetch, merge, index, certify; and the loop that takes every due window through them.

Each stage takes a ``Work`` and windows and yields figures per window; run again it finds its work done. How a stage is computed belongs
to the engines.
"""
