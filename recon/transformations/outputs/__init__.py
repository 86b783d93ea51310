"""Outputs of a request: files of tables, rows set aside, and the certificate; all of them or none."""
