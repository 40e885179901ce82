"""Whose answers the certificate of a decision is about."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add a column that is null in the rows there are, so that their hashes stay."""
    op.add_column("answers", sa.Column("scope", sa.String(8)))
