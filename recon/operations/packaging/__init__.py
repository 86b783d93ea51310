"""Packs the library for other machines: a zip for Spark, wheels for EMR, a zip for Lambda."""
