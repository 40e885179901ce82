"""What a candidate that was scored beside said of the answer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a column that is null in the rows there are, so that their hashes stay."""
    op.add_column("answers", sa.Column("candidate", sa.JSON(none_as_null=True)))
