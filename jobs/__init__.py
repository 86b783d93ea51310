"""When and how things run: the code location, jobs, sensors, runs in process, the UI.

Belongs here: putting assets, checks and resources together and starting runs. Does not belong here: what an asset is
(recon_assets), what a stage does (recon).
"""
