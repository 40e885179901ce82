"""Answers, outcomes, and the signed ends of their chains."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the four tables."""
    op.create_table(
        "answers",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("question_sha256", sa.String(64), nullable=False),
        sa.Column("question", sa.Text),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("bundle", sa.Text, nullable=False),
        sa.Column("certificate", sa.Text),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("self_consistency", sa.Text, nullable=False),
        sa.Column("risk", sa.Double),
        sa.Column("risk_missing", sa.Text),
        sa.Column("stage", sa.SmallInteger, nullable=False),
        sa.Column("accept_below", sa.Double),
        sa.Column("reject_above", sa.Double),
        sa.Column("signals", sa.JSON, nullable=False),
        sa.Column("timings", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("audit", sa.Boolean, nullable=False),
        sa.Column("audit_probability", sa.Double),
        *_links(),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sa.UniqueConstraint("chain", "sequence", name="uq_answers_chain_sequence"),
    )
    op.create_index("ix_answers_created_us_id", "answers", ["created_us", "id"])
    op.create_table(
        "outcomes",
        sa.Column("answer_id", sa.String(26), nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("correct", sa.Boolean),
        sa.Column("reference", sa.Text),
        *_links(),
        sa.PrimaryKeyConstraint("answer_id", "reviewer", "version", name="pk_outcomes"),
        sa.UniqueConstraint("chain", "sequence", name="uq_outcomes_chain_sequence"),
    )
    op.create_table("tails", *_head(), sa.PrimaryKeyConstraint("chain", name="pk_tails"))
    op.create_table(
        "heads", *_head(), sa.PrimaryKeyConstraint("chain", "sequence", "kind", name="pk_heads")
    )


def _links() -> tuple[sa.Column[str] | sa.Column[int], ...]:
    return (
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )


def _head() -> tuple[sa.Column[str] | sa.Column[int], ...]:
    return (
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
    )
