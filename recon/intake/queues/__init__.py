"""Records that need work one by one: clean → queue → store → process → finish; see docs/decisions/024-record-queue.md.

``parcels`` is what travels, ``port`` the queues and the record store, ``steps`` what is done with a message, ``clean`` how a file becomes
messages, ``whole`` a clean file taken all the way. ``sql_queue`` and ``sql_store`` are embedded; ``aws_…`` is SQS, DynamoDB and Lambda.
Reading, cleaning and landing files belong to the sources. Modules that a Lambda function imports do without DuckDB and SQLAlchemy.
"""
