"""Sources: what a sender's files are, how their rows are cleaned and checked, and what becomes of each received file.

A *source* is ``sources/NAME.yaml`` beside the configuration. A received file is kept under its digest, converted by
``recon.intake.converters``, cleaned and checked here, and landed as clean Parquet in a window; the database tracks its state. Typing the
values is the core's work.
"""
