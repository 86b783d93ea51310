"""Spark behind the port: tasks that run the library's own code on files, a window or a slice of the hash space each."""
