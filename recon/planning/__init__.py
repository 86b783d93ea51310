"""Which windows to process next: due, ready for a stage, closing, cut into ranges within the caps, quarantined.

A *range* is a block of consecutive windows. Planning reads the store and closes windows; it runs no stage.
"""
