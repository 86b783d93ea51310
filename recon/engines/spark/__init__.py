"""Spark behind the port: Spark SQL for large windows, and tasks that run the library's own code on a file, a window or a slice each."""
