"""Aggregations: one row per key of a table in the warehouse, from the received files of a source, once what they wait for is there.

A *definition* says what is aggregated, what it waits for and where it goes. A *scope* is one window of its source, or all of them. An
*evaluation* answers each *condition* of a scope on one snapshot of the database, by the *versions* of its files: the numbers of rows in
``files``, each one delivery's bytes. A *run* aggregates exactly those versions, and a *load* puts the result into the warehouse, once.
"""
