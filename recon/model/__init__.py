"""The words of the field as values: windows, moments, totals, keys, records, conflicts. Pure functions and dataclasses, no I/O.

A *window* is one cell of the time grid. *Totals* are rows and money by control. A *record* is one stateful artifact as it is stored.
Everything else may import these modules; they import only ``recon.errors``.
"""
