"""The concepts of reconciliation as values: windows, moments, totals, keys, records, conflicts. Pure functions and dataclasses, no I/O.

A *window* is one cell of the time grid. *Totals* are rows and money by control total. A *record* is the stored form of one stateful
artifact. Every other room may import these modules; they import only ``recon.errors``.
"""
