"""The tables. The migrations build the same ones; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _links() -> tuple[Column[str] | Column[int], ...]:
    """Where a row stands in its chain, the hash of the row before it, and its own."""
    return (
        Column("chain", Text, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("previous_hash", String(64), nullable=False),
        Column("hash", String(64), nullable=False),
    )


answers = Table(
    "answers",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("created_us", BigInteger, nullable=False),  # microseconds since 1970, UTC
    Column("question_sha256", String(64), nullable=False),
    Column("question", Text),
    Column("image_sha256", String(64), nullable=False),
    Column("answer", Text),
    Column("model", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("certificate", Text),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("self_consistency", Text, nullable=False),
    Column("risk", Double),
    Column("risk_missing", Text),
    Column("stage", SmallInteger, nullable=False),
    Column("accept_below", Double),
    Column("reject_above", Double),
    Column("signals", JSON, nullable=False),
    Column("timings", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("audit", Boolean, nullable=False),
    Column("audit_probability", Double),
    Column("audit_reference", Double),
    Column("candidate", JSON(none_as_null=True)),
    Column("scope", String(8)),
    Column("group", Text),
    *_links(),
    UniqueConstraint("chain", "sequence"),
)
Index(None, answers.c.created_us, answers.c.id)
DRAWN = answers.c.audit.is_(True)
Index(
    "ix_answers_audits",
    answers.c.chain,
    answers.c.sequence,
    sqlite_where=DRAWN,
    postgresql_where=DRAWN,
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("answer_id", String(26), primary_key=True),
    Column("reviewer", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_us", BigInteger, nullable=False),
    Column("correct", Boolean),
    Column("reference", Text),
    Column("position", BigInteger),  # among the words on this answer; null before 0006
    Column("note", Text),
    Column("cannot_tell", Boolean),
    Column("rule", Text),
    *_links(),
    UniqueConstraint("chain", "sequence"),
)
Index("ix_outcomes_position", outcomes.c.answer_id, outcomes.c.position, unique=True)

tails = Table(
    "tails",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("signature", String(128), nullable=False),
)

heads = Table(
    "heads",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("signature", String(128), nullable=False),
)

voids = Table(
    "voids",
    metadata,
    Column("certificate", String(64), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("alpha", Double, nullable=False),
    Column("delta", Double, nullable=False),
    Column("wrong", Integer, nullable=False),
    Column("audits", Integer, nullable=False),
    *_links(),
    UniqueConstraint("chain", "sequence"),
)

void_history = Table(
    "void_history",
    metadata,
    Column("certificate", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("alpha", Double, nullable=False),
    Column("delta", Double, nullable=False),
    Column("evidence", Double, nullable=False),
    Column("wrong", Integer, nullable=False),
    Column("audits", Integer, nullable=False),
    Column("bundle", Text),  # this and what follows: null before 0007, and in lines that lift
    Column("data", JSON(none_as_null=True)),
    Column("until_us", BigInteger),
    Column("basis", JSON(none_as_null=True)),
    *_links(),
    UniqueConstraint("chain", "sequence"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("bundle", Text, primary_key=True),
    Column("certificate", String(64), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("data", JSON(none_as_null=True), nullable=False),
    Column("alpha", Double, nullable=False),
    Column("delta", Double, nullable=False),
    *_links(),
    UniqueConstraint("chain", "sequence"),
)

past_audits = Table(
    "past_audits",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("certificate", Text),
    Column("audit_group", String(64), nullable=False),
    Column("probability", Double, nullable=False),
    Column("reference", Double),
    Column("wrong", Boolean),
    Column("confirmed", Boolean, nullable=False),
    Column("named_group", String(64)),
    Column("corrected", Boolean),  # this and what follows: null before 0007
    Column("chain", Text),
    Column("sequence", BigInteger),
)
Index("ix_past_audits_bundle", past_audits.c.bundle)

# Of the versions before 0006, and read for good: single voids, and audits as counts.
totals = Table(
    "totals",
    metadata,
    Column("certificate", Text, primary_key=True),
    Column("bundle", Text, primary_key=True),
    Column("probability", Double, primary_key=True),
    Column("wrong", Integer, nullable=False),
    Column("correct", Integer, nullable=False),
    Column("awaiting", Integer, nullable=False),
)

CHAINED = (answers, outcomes, voids, void_history, certificates)
