"""The engines behind one port (``port.py``): DuckDB in this process, and Spark. They reduce windows, find existing records and merge.

All engines write identical records for the same input. The order of the stages, commits and quarantine belong to ``recon.stages``.
"""
