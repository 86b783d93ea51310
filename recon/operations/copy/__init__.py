"""Copies a store into another one, data first and the timeline last, and checks that everything arrived."""
