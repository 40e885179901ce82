"""When the database took an answer, and the order in which it took the audits."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add columns that are null in the rows there are, so that their hashes stay."""
    for table in ("answers", "past_audits"):
        op.add_column(table, sa.Column("arrived_us", sa.BigInteger))
        op.add_column(table, sa.Column("audit_number", sa.BigInteger))
        op.create_index(f"ix_{table}_audit_number", table, ["audit_number"])
