"""The store in Amazon S3, or in another service with S3's protocol. Design: docs/decisions/011-s3-store.md.

``store`` is the ObjectStore; ``session`` has region, endpoint, credentials and clients; ``requests`` retries; ``failures`` turns errors of
S3 into Recon's; ``multipart`` writes large objects; ``foreign`` reads what other programs put, whatever its key is.
"""

from recon.storage.s3.foreign import ForeignObjects
from recon.storage.s3.store import S3Store, open_s3

__all__ = ["ForeignObjects", "S3Store", "open_s3"]
