"""The world outside, one file each: stores, Dagster's own instance; later index tables, caches, queues, engines, EMR and Lambda.

Belongs here: how to reach a thing and with which settings. Does not belong here: what reconciliation does with it.
"""
