"""Formulas: parsed by formualizer, typed and compiled to layers of columns."""
