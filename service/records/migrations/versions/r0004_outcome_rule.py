"""The rule that judged an outcome's reference."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a column that is null in the rows there are, so that their hashes stay."""
    op.add_column("outcomes", sa.Column("rule", sa.Text))
