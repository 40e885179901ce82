"""Groups that callers name, and what a void rests on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add columns that are null in the rows there are, so that their hashes stay."""
    op.add_column("answers", sa.Column("group", sa.Text))
    op.add_column("void_history", sa.Column("bundle", sa.Text))
    op.add_column("void_history", sa.Column("data", sa.JSON(none_as_null=True)))
    op.add_column("void_history", sa.Column("until_us", sa.BigInteger))
    op.add_column("void_history", sa.Column("basis", sa.JSON(none_as_null=True)))
    op.add_column("past_audits", sa.Column("named_group", sa.String(64)))
    op.add_column("past_audits", sa.Column("corrected", sa.Boolean))
    op.add_column("past_audits", sa.Column("chain", sa.Text))
    op.add_column("past_audits", sa.Column("sequence", sa.BigInteger))
