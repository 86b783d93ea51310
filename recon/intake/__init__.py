"""What arrives: files landed into windows as numbered batches, corrections, and the log of landings.

A *batch* is one window's files at one revision, described by a *manifest*. ``files`` reads the formats. Processing a batch belongs to
the stages.
"""
