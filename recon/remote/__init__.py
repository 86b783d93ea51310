"""Stages that run on a cluster: requests and results exchanged through the store, and submission to EMR.

``exchange`` writes a request and waits for its result; ``worker`` carries one out on the cluster; ``emr`` submits steps and reads their
logs.
"""
