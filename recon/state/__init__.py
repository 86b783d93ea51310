"""What is committed: the timeline, its checkpoints, reduced windows, runs and part-files, certificates, and their upkeep.

A *commit* is one entry of the timeline. A *run* maps hashes of keys to records in *part-files*; *tiers* are merged runs. A *generation*
is a state built anew by a rebuild. Nothing here decides what is due or computes an artifact.
"""
