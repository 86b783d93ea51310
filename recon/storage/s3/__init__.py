"""The store in Amazon S3, or in another service with S3's protocol. Design: docs/decisions/011-s3-store.md.

``store`` is the ObjectStore; ``session`` has region, endpoint, credentials and clients; ``requests`` retries; ``failures`` turns errors of
S3 into Recon's; ``multipart`` writes large objects.
"""

from recon.storage.s3.store import S3Store, open_s3

__all__ = ["S3Store", "open_s3"]
