"""The index table in DynamoDB: a serving copy of the runs for look-ups by other programs. No stage depends on it.

``sync`` brings the table up to date, ``load`` loads one ``share`` of it, ``workers`` load shares in parallel, ``client`` reads records. The
runs themselves are in ``recon.state.runs``. Decision: docs/decisions/012-serving-index.md.
"""
