"""Proves a store: every entry leads to its record, every certificate ties, and, in full, every artifact is what its events make it.

It shares no merge, reduce or duplicate code with the engines and stages, so that one mistake cannot be on both sides. *Findings* are
what it reports.
"""
