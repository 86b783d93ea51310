"""Answers about what is committed: artifacts, history, breaks, duplicates, rejects, status, exports. Nothing here writes to the store."""
