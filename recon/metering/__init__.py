"""Counts the requests and bytes that each service is asked for, and prices them.

``meter`` is the callback that a store or client calls once per request; ``usage`` adds the counts up by stage; ``prices`` turns them
into dollars. Modules here know no store and no stage.
"""
