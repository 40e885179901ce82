"""An inspection line in the records: audited answers, and what people said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from ulid import ULID

from probes.model.bundle import Bundle
from service.gate.promise import Promise
from service.records.answer import AnswerRecord, question_hash
from service.records.outcome import Outcome
from service.records.store import RecordStore
from service.records.tables import answers
from service.records.voids import last_changes

START = datetime.now(UTC) - timedelta(days=30)


def voided(store: RecordStore, certificates: Iterable[str]) -> frozenset[str]:
    """Those of the certificates that are void."""
    last = last_changes(store)
    return frozenset(name for name in certificates if name in last and last[name].kind == "void")


def answered(**changes: Any) -> AnswerRecord:
    """A record as the service makes it; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "id": str(ULID()),
        "created": datetime.now(UTC),
        "question_sha256": question_hash("Is there a scratch?"),
        "image_sha256": "ab" * 32,
        "model": "tiny",
        "revision": "r1",
        "bundle": "b-1",
        "certificate": None,
        "decision": "escalate",
        "reason": "risk_above_threshold",
        "mode": "enforce",
        "self_consistency": "auto",
        "risk": 0.1 + 0.2,
        "stage": 2,
        "accept_below": 0.07,
        "reject_above": None,
        "signals": {
            "hidden_state_probe": {"logit": -1.5, "layers": [6]},
            "token_confidence": {"mean_logprob": -0.2, "first_token_entropy": 1e-17, "margin": 1.0},
            "evidence": {"missing": "not_requested"},
        },
        "timings": {"generate": 0.04, "total": 0.05},
        "metadata": {"line": "3", "camera": "A"},
        "answer": "yes",
    }
    return AnswerRecord(**{**fields, **changes})


class Line:
    """Writes audited answers and their outcomes."""

    def __init__(self, store: RecordStore, record: Callable[..., AnswerRecord]) -> None:
        self.store = store
        self._record = record
        self._count = 0

    def audit(self, wrongs: list[bool | None], **changes: Any) -> list[AnswerRecord]:
        """One audited answer each, hours apart; None is not judged."""
        fields: dict[str, Any] = {
            "bundle": "b-test",
            "certificate": "c-never",
            "reason": "audit",
            "audit": True,
            "audit_probability": 0.5,
            **changes,
        }
        records = []
        for _ in wrongs:
            self._count += 1
            fields["image_sha256"] = changes.get("image_sha256", f"{self._count:064x}")
            created = {"created": START + timedelta(hours=self._count)}
            records.append(self._record(**{**created, **fields}))
        self.store.append_answers(records)
        for record, wrong in zip(records, wrongs, strict=True):
            if wrong is not None:
                self.judge(record, wrong)
        return records

    def judge(self, record: AnswerRecord, wrong: bool, reviewer: str = "ann") -> None:
        told = record.created + timedelta(minutes=1)
        self.store.add_outcome(Outcome(record.id, told, correct=not wrong, reviewer=reviewer))


def dated(store: RecordStore) -> None:
    """As if the database had taken each answer when it was made."""
    with store.writing() as connection:
        connection.execute(update(answers).values(arrived_us=answers.c.created_us))


def with_claim(bundle: Bundle, name: str, **changes: Any) -> Bundle:
    """The bundle with other certificates: other ids, and what else they say otherwise."""
    found = tuple(
        replace(one, outcome=replace(one.outcome, id=f"{one.outcome.id}-{name}", **changes))
        for one in bundle.attempts
    )
    return replace(bundle, attempts=found)


def read(store: RecordStore, bundle: Bundle, **settings: Any) -> Promise:
    promise = Promise(store, bundle, **settings)
    assert promise.void  # what was not read yet does not count as fine
    promise.read()
    return promise
