"""This project beside what people would use instead: the same events, the same reduce, then each one's way into its state.

Belongs here: the workload, one module per peer, the steps and the order they are taken in, tables and charts. Does not belong here: any
bar; a reader compares.
"""
