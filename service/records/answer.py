"""One recorded answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import RowMapping

from probes.types import ConsistencyMode, Missing, Reason, Scope, Verdict
from service.records.canonical import microseconds, moment, plain
from service.records.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """An answer with everything that led to its decision.

    Args:
        id: the answer's ULID.
        created: when the request came; with a time zone.
        question_sha256: see `question_hash`.
        image_sha256: of the image file's bytes, hexadecimal.
        model: the model's name.
        revision: hash of its weights.
        bundle: id of the bundle that decided.
        certificate: id of the certificate the decision rests on, if any.
        decision: accept, escalate or reject.
        reason: the rule that decided.
        mode: ``enforce`` or ``shadow``.
        self_consistency: as asked for; a certificate holds for one of them.
        risk: calibrated probability that the answer is wrong, 0 to 1, or why there is none.
        stage: 1 without, 2 with self-consistency.
        accept_below: risk at or below which answers were accepted, if any.
        reject_above: risk above which answers were rejected, if any.
        signals: as in the response; a missing one is ``{"missing": reason}``.
        timings: seconds per stage.
        metadata: what the caller sent along, such as line and camera: the answer's slices.
        audit: drawn for a random audit.
        audit_probability: with what probability it could be drawn, 0 to 1, if it could.
        audit_reference: what the test of the promise weighs it by, fixed at the draw: above 0, at
            most ``audit_probability``. None where it was not drawn, and in records of before 0006.
        question: its text; the recorder drops it unless told to keep it.
        answer: its text.
        candidate: what other rules would have said: bundle, decision, risk, or ``missing``.
        scope: whose answers the certificate is about: ``all``, ``own`` or ``pooled``.
        group: scene, part or batch that the image shows, as the caller names it.
        arrived: when the database took it, by the database's clock; audit_number: among all audits
            as they arrived. The database sets both, and records of before 0009 lack them.
    """

    id: str
    created: datetime
    question_sha256: str
    image_sha256: str
    model: str
    revision: str
    bundle: str
    certificate: str | None
    decision: Verdict
    reason: Reason
    mode: str
    self_consistency: ConsistencyMode
    risk: float | Missing
    stage: int
    accept_below: float | None
    reject_above: float | None
    signals: Mapping[str, Any]
    timings: Mapping[str, float]
    metadata: Mapping[str, str] = field(default_factory=dict)
    audit: bool = False
    audit_probability: float | None = None
    audit_reference: float | None = None
    question: str | None = None
    answer: str | None = None
    candidate: Mapping[str, Any] | None = None
    scope: Scope | None = None
    group: str | None = None
    arrived: datetime | None = field(default=None, compare=False)
    audit_number: int | None = field(default=None, compare=False)


def question_hash(question: str) -> str:
    """SHA-256 of the question's UTF-8, hexadecimal: which question, without its words."""
    return sha256(question.encode("utf-8", "surrogatepass")).hexdigest()


def answer_row(record: AnswerRecord) -> dict[str, Any]:
    """The record as columns that read back as they were written.

    Raises:
        InvalidRecord: a number is not finite, or a value has no JSON.
    """
    row: dict[str, Any] = {item.name: getattr(record, item.name) for item in fields(record)}
    del row["arrived"], row["audit_number"]  # the database sets them
    created = row.pop("created")
    risk = row.pop("risk")
    row["created_us"] = microseconds(created)
    row["risk"], row["risk_missing"] = (
        (None, risk.reason) if isinstance(risk, Missing) else (risk, None)
    )
    for name in ("risk", "accept_below", "reject_above", "audit_probability", "audit_reference"):
        row[name] = _finite(name, row[name])
    return {name: plain(name, value) for name, value in row.items()}


def answer_record(row: RowMapping) -> AnswerRecord:
    """The record that a row of the table ``answers`` holds."""
    values = {item.name: row[item.name] for item in fields(AnswerRecord) if item.name in row}
    values["created"] = moment(row["created_us"])
    if row["arrived_us"] is not None:
        values["arrived"] = moment(row["arrived_us"])
    if row["risk"] is None:
        values["risk"] = Missing(row["risk_missing"])
    return AnswerRecord(**values)


def _finite(name: str, value: float | None) -> float | None:
    """A float; minus zero becomes zero, as SQLite keeps no sign on it."""
    if value is None:
        return None
    if not math.isfinite(value):
        raise InvalidRecord(f"{name}: {value} is not finite; record why it is missing instead")
    return float(value) + 0.0
