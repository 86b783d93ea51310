"""Answers questions about committed data: artifacts, history, breaks, duplicates, rejects, status, exports. It never writes to the store.

A *look-up* reads one artifact (`show`, `served`); *moments* say as of when; a *caveat* restricts an answer.
"""
