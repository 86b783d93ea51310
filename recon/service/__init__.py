"""The transformation service without its web pages: tokens, requests, their queue, workers and results; docs/decisions/028-service.md.

``site`` opens all of it; ``submissions`` is a request and its states; ``admission`` judges what is submitted, ``paths`` what its owner may
name; ``requests`` stores and finds requests, ``claims`` is what workers do with them, by the turns of ``fairness``; ``worker`` starts and
watches a process for each, ``work`` is what such a process does; ``results`` has what comes out.
"""
