"""Certificates that services have loaded, each with the names of its data."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "certificates",
        sa.Column("bundle", sa.Text, nullable=False),
        sa.Column("certificate", sa.String(64), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("alpha", sa.Double, nullable=False),
        sa.Column("delta", sa.Double, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("bundle", "certificate", name="pk_certificates"),
        sa.UniqueConstraint("chain", "sequence", name="uq_certificates_chain_sequence"),
    )
