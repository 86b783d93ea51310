"""Runs stages as steps of an EMR cluster: submission, waiting, logs, errors by their cause. EMR Serverless: resources.emr_serverless."""
