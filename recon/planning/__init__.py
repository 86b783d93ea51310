"""What is to be done next: which windows are due, which close, in which ranges, and which are quarantined.

A *range* is a block of consecutive windows within the caps. Planning reads the store and starts nothing.
"""
