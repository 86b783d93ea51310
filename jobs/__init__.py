"""The Dagster code location, and everything that starts runs: jobs, sensors, schedules, runs in this process, the UI.

The assets and checks are in ``recon_assets``, the stages that they call in ``recon``.
"""
