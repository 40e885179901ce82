"""Who said what in which order, states of a certificate, and audits whose records are deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add columns that are null in older rows, so that their hashes stay, and two tables."""
    op.add_column("answers", sa.Column("audit_reference", sa.Double))
    op.add_column("outcomes", sa.Column("position", sa.BigInteger))
    op.add_column("outcomes", sa.Column("note", sa.Text))
    op.add_column("outcomes", sa.Column("cannot_tell", sa.Boolean))
    op.create_index("ix_outcomes_position", "outcomes", ["answer_id", "position"], unique=True)
    op.create_table(
        "void_history",
        sa.Column("certificate", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("alpha", sa.Double, nullable=False),
        sa.Column("delta", sa.Double, nullable=False),
        sa.Column("evidence", sa.Double, nullable=False),
        sa.Column("wrong", sa.Integer, nullable=False),
        sa.Column("audits", sa.Integer, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("certificate", "number", name="pk_void_history"),
        sa.UniqueConstraint("chain", "sequence", name="uq_void_history_chain_sequence"),
    )
    op.create_table(
        "past_audits",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("bundle", sa.Text, nullable=False),
        sa.Column("certificate", sa.Text),
        sa.Column("audit_group", sa.String(64), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("reference", sa.Double),
        sa.Column("wrong", sa.Boolean),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_past_audits"),
    )
    op.create_index("ix_past_audits_bundle", "past_audits", ["bundle"])
