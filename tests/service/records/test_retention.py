from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, update

from service.records.answer import AnswerRecord
from service.records.outcome import Outcome
from service.records.retention import Deleted, delete_before
from service.records.store import RecordStore
from service.records.tables import answers
from service.records.verify import verify

Make = Callable[..., AnswerRecord]
NOW = datetime.now(UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@pytest.fixture
def filled(store: RecordStore, record: Make) -> RecordStore:
    """Ten answers, the oldest nine days old, the youngest of now."""
    store.append_answers([record(id=f"A{day}", created=ago(day)) for day in reversed(range(10))])
    return store


def left(store: RecordStore) -> str:
    report = verify(store)
    assert report.ok, report.problems
    return "".join(one.id[1:] for one in store.page().answers)


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_old_answers_go_and_the_rest_verifies(
    filled: RecordStore, record: Make, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("service.records.retention.CHUNK_ROWS", chunk)
    assert delete_before(filled, ago(6.5)) == Deleted(3, 0)
    assert left(filled) == "0123456"
    assert delete_before(filled, ago(6.5)) == Deleted(0, 0)
    filled.append_answers([record(id="Ax", created=NOW)])
    assert delete_before(filled, ago(1.5)) == Deleted(5, 0)
    assert left(filled) == "x01"


def test_everything_may_go_and_the_chain_goes_on(filled: RecordStore, record: Make) -> None:
    assert delete_before(filled, NOW + timedelta(days=1)) == Deleted(10, 0)
    assert left(filled) == ""
    filled.append_answers([record(id="Ax")])
    assert left(filled) == "x"
    assert {head.sequence for head in filled.heads()} == {11}


def test_tampering_after_retention_is_found(filled: RecordStore) -> None:
    delete_before(filled, ago(6.5))
    with filled.writing() as connection:
        connection.execute(delete(answers).where(answers.c.id == "A6"))
        connection.execute(update(answers).where(answers.c.id == "A3").values(decision="accept"))
    found = [(problem.kind, problem.sequence) for problem in verify(filled).problems]
    assert found == [("removed", 4), ("changed", 7)]


def test_a_clock_that_jumped_keeps_nothing_alive(store: RecordStore, record: Make) -> None:
    days = {"A9": 9, "Aj": -9000, "A8": 8, "A1": 1, "A7": 7}
    store.append_answers([record(id=name, created=ago(day)) for name, day in days.items()])
    assert delete_before(store, ago(5)) == Deleted(3, 0)
    assert left(store) == "17"  # A7 came after a younger one, and stays until that may go


def test_outcomes_go_by_their_own_age(filled: RecordStore) -> None:
    filled.add_outcome(Outcome("A9", ago(8), correct=True))
    filled.add_outcome(Outcome("A5", ago(4), correct=True))
    assert delete_before(filled, ago(6.5)) == Deleted(3, 1)
    assert left(filled) == "0123456"
    assert [one.answer_id for one in filled.outcomes_of(["A9", "A5"])] == ["A5"]


def test_chains_of_other_writers_are_cleaned_too(
    url: str, filled: RecordStore, open_store: Callable[..., RecordStore], record: Make
) -> None:
    other = open_store(url, writer="two", key=filled.key)
    other.append_answers([record(id="Bo", created=ago(8)), record(id="By")])
    assert delete_before(filled, ago(6.5)) == Deleted(4, 0)
    assert left(filled) == "y0123456"
