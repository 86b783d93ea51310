"""The SQL database of a site: received files, record queues, and what later capabilities track.

The object store is the truth about events and artifacts; the database is the truth about files received and work asked for. SQLite in
``.recon/`` beside the configuration unless ``database`` names another, such as PostgreSQL. ``migrations`` makes and changes its tables.
"""

from recon.database.open import open_database, present_database
from recon.database.transactions import Database

__all__ = ["Database", "open_database", "present_database"]
