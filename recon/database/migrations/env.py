"""Run by Alembic: applies the revisions on the connection that recon.database.migrate gives."""

from alembic import context

from recon.database.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True, transactional_ddl=False)
context.run_migrations()
