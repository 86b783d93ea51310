"""Stages that run on a cluster: requests and results exchanged through the store, and submission to EMR.

``exchange`` puts and reads requests and results; ``worker`` carries one out on the cluster; ``emr`` submits steps and reads their
logs.
"""
