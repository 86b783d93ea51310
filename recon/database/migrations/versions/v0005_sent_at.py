"""When the message of a request was sent last."""

import sqlalchemy as sa
from alembic import op

from recon.database.types import Instant

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("requests", sa.Column("sent_at", Instant))
