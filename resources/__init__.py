"""What assets and jobs reach outside Recon, as Dagster resources: stores, caches, Spark, EMR, CloudWatch, and Dagster's own instance.

Each module has the connection and its settings; the library in ``recon`` decides how it is used.
"""
