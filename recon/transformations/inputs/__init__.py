"""Inputs of a request: the files that they are, opened with intake's converters, with the types of their columns."""
