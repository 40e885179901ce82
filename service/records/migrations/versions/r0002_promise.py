"""Certificates that audits voided, totals of the audits that retention deleted, and an index."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create two tables and the index of the audits."""
    op.create_table(
        "voids",
        sa.Column("certificate", sa.String(64), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("alpha", sa.Double, nullable=False),
        sa.Column("delta", sa.Double, nullable=False),
        sa.Column("wrong", sa.Integer, nullable=False),
        sa.Column("audits", sa.Integer, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("certificate", name="pk_voids"),
        sa.UniqueConstraint("chain", "sequence", name="uq_voids_chain_sequence"),
    )
    op.create_table(
        "totals",
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("bundle", sa.Text, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("wrong", sa.Integer, nullable=False),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("awaiting", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("certificate", "bundle", "probability", name="pk_totals"),
    )
    drawn = sa.column("audit", sa.Boolean).is_(True)
    op.create_index(
        "ix_answers_audits",
        "answers",
        ["chain", "sequence"],
        sqlite_where=drawn,
        postgresql_where=drawn,
    )
