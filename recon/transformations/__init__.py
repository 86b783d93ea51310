"""Transformations: what accountants do in a spreadsheet, on files of any size, without code and exact.

A *request* names inputs, operations in order, and outputs. An *operation* makes a *table* anew. A *formula* computes a column, with Excel's
meaning. Values are those of ``recon.vocabulary``; an *error* such as ``#N/A`` is a value, too: a null with its kind beside it.
"""
