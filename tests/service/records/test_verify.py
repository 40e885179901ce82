from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
from sqlalchemy import delete, insert, select, update

from service.records.answer import AnswerRecord
from service.records.chain import HEAD_EVERY, row_hash
from service.records.head import SigningKey
from service.records.store import RecordStore
from service.records.tables import answers, heads, tails
from service.records.verify import VerifyReport, verify

Make = Callable[..., AnswerRecord]
CHAIN = "answers:one"


@pytest.fixture
def filled(store: RecordStore, record: Make) -> RecordStore:
    """Ten rows, in batches of five."""
    for _ in range(2):
        store.append_answers([record() for _ in range(5)])
    assert verify(store).ok
    return store


def kinds(report: VerifyReport) -> list[tuple[str, int]]:
    return [(problem.kind, problem.sequence) for problem in report.problems]


@pytest.mark.parametrize(
    "change",
    [
        {"decision": "accept"},
        {"risk": 0.30000000000000001},
        {"created_us": 1},
        {"audit": True},
        {"signals": {}},
        {"answer": None},
        {"certificate": "c-1"},
    ],
)
def test_a_changed_column_is_found(filled: RecordStore, change: dict[str, object]) -> None:
    with filled.writing() as connection:
        connection.execute(update(answers).where(answers.c.sequence == 4).values(change))
    assert kinds(verify(filled)) == [("changed", 4)]


def test_a_change_with_a_new_hash_breaks_the_link(filled: RecordStore) -> None:
    _forge(filled, 4)
    assert kinds(verify(filled)) == [("unlinked", 5)]


def test_a_change_of_the_last_row_breaks_the_signed_end(filled: RecordStore) -> None:
    _forge(filled, 10)
    assert kinds(verify(filled)) == [("unlinked", 10)]


@pytest.mark.parametrize("gone", [1, 4, 10])
def test_a_removed_row_is_found(filled: RecordStore, gone: int) -> None:
    with filled.writing() as connection:
        connection.execute(delete(answers).where(answers.c.sequence == gone))
    assert kinds(verify(filled)) == [("removed", gone)]


@pytest.mark.parametrize(("chain", "sequence"), [(CHAIN, 11), (CHAIN, 0), ("answers:new", 1)])
def test_an_inserted_row_is_found(filled: RecordStore, chain: str, sequence: int) -> None:
    with filled.writing() as connection:
        row = dict(connection.execute(select(answers).limit(1)).mappings().one())
        row |= {"id": "forged", "chain": chain, "sequence": sequence}
        row["hash"] = row_hash(row)
        connection.execute(insert(answers).values(row))
    assert kinds(verify(filled)) == [("inserted", sequence)]


def test_a_forged_end_is_found(filled: RecordStore) -> None:
    with filled.writing() as connection:
        connection.execute(delete(answers).where(answers.c.sequence == 10))
        last = connection.scalar(select(answers.c.hash).where(answers.c.sequence == 9))
        forged = asdict(SigningKey.generate().sign(CHAIN, 9, str(last)))
        connection.execute(update(tails).values(forged))
    assert ("bad_signature", 9) in kinds(verify(filled))
    with filled.writing() as connection:
        connection.execute(update(tails).values(key_id=filled.key.id))
    assert ("bad_signature", 9) in kinds(verify(filled))


def test_a_head_does_not_pass_as_retention(filled: RecordStore) -> None:
    """Deleting the beginning needs a signature that says so."""
    with filled.writing() as connection:
        third = connection.scalar(select(answers.c.hash).where(answers.c.sequence == 3))
        honest = filled.key.sign(CHAIN, 3, str(third))
        connection.execute(insert(heads).values(asdict(replace(honest, kind="retention"))))
        connection.execute(delete(answers).where(answers.c.sequence <= 3))
    assert kinds(verify(filled)) == [("bad_signature", 3), ("removed", 1)]


def test_only_an_anchor_shows_that_everything_was_set_back(
    filled: RecordStore, record: Make
) -> None:
    earlier = {head.chain: head for head in filled.heads()}[CHAIN]
    filled.append_answers([record()])
    anchors = filled.heads()
    with filled.writing() as connection:
        connection.execute(delete(answers).where(answers.c.sequence == 11))
        connection.execute(update(tails).values(asdict(earlier)))
    assert verify(filled).ok
    assert kinds(verify(filled, anchors=anchors)) == [("removed", 11)]


def test_a_chain_of_another_key_needs_that_key(
    url: str, filled: RecordStore, open_store: Callable[..., RecordStore], record: Make
) -> None:
    other = open_store(url, writer="two")
    other.append_answers([record()])
    assert {kind for kind, _ in kinds(verify(filled))} == {"bad_signature", "inserted"}
    assert verify(filled, keys=[other.key.public]).ok


def test_heads_are_kept_on_the_way(store: RecordStore, record: Make) -> None:
    for _ in range(HEAD_EVERY * 2 // 400 + 1):
        store.append_answers([record() for _ in range(400)])
    with store.reading() as connection:
        kept = [head.sequence for head in store.old_heads(connection)]
    assert kept == [1200, 2000]
    assert verify(store).ok


def _forge(store: RecordStore, sequence: int) -> None:
    """Change a row and give it a hash that fits."""
    with store.writing() as connection:
        here = answers.c.sequence == sequence
        row = dict(connection.execute(select(answers).where(here)).mappings().one())
        row["decision"] = "accept"
        row["hash"] = row_hash(row)
        connection.execute(update(answers).where(here).values(row))
