"""A store in Amazon S3, or in what speaks its protocol.

Belongs here: the adapter. Does not belong here: which objects there are (recon.storage.layout), and opening a store by its location
(recon.storage.local).

``store``: the ObjectStore. ``session``: location, region, endpoint, credentials, clients. ``requests``: trying a request again.
``failures``: what S3 answers, as this project's errors. ``multipart``: objects of many parts. Design: docs/decisions/011-s3-store.md.
"""

from recon.storage.s3.store import S3Store, open_s3

__all__ = ["S3Store", "open_s3"]
