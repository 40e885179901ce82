from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from probes.types import Missing
from service.records.answer import AnswerRecord
from service.records.errors import InvalidRecord, UnknownAnswer
from service.records.outcome import Outcome
from service.records.store import RecordStore
from service.records.verify import verify

Make = Callable[..., AnswerRecord]


def test_an_answer_reads_back_as_it_was_written(store: RecordStore, record: Make) -> None:
    written = [
        record(),
        record(risk=Missing("engine_error"), audit=True, audit_probability=0.125),
        record(risk=0.0, question="Ist da ein Kratzer? \N{PILE OF POO}", answer=""),
    ]
    store.append_answers(written)
    assert [store.get(one.id) for one in written] == written
    assert store.get("nobody") is None


def test_text_that_databases_refuse_is_replaced(store: RecordStore, record: Make) -> None:
    one = record(answer="a\x00b\ud800", metadata={"line\x00": "\udfff", "pair": "\ud83d\ude00"})
    store.append_answers([one])
    kept = store.get(one.id)
    assert kept is not None
    assert kept.answer == "a\ufffdb\ufffd"
    assert kept.metadata == {"line\ufffd": "\ufffd", "pair": "\U0001f600"}
    assert verify(store).ok


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"risk": float("nan")}, "risk"),
        ({"signals": {"probe": float("inf")}}, "signals"),
        ({"metadata": {"line": object()}}, "metadata"),
        ({"created": datetime(2026, 1, 1)}, "created"),
    ],
)
def test_a_record_that_cannot_be_written_names_its_field(
    store: RecordStore, record: Make, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRecord, match=field):
        store.append_answers([record(**changes)])


def test_a_batch_is_written_whole_or_not_at_all(store: RecordStore, record: Make) -> None:
    good, twice = record(), record()
    store.append_answers([twice])
    with pytest.raises(InvalidRecord, match="refuses"):
        store.append_answers([good, twice])
    assert store.get(good.id) is None
    assert verify(store).rows == 1


def test_a_second_try_writes_only_what_the_first_did_not(store: RecordStore, record: Make) -> None:
    first, second = record(), record()
    store.append_answers([first])
    store.append_answers([first, second], again=True)
    store.append_answers([first, second], again=True)
    report = verify(store)
    assert (report.rows, report.ok) == (2, True)


def test_writers_of_one_name_and_of_several_share_a_database(
    url: str, open_store: Callable[..., RecordStore], record: Make
) -> None:
    first = open_store(url, writer="one")
    same = open_store(url, writer="one", key=first.key)
    other = open_store(url, writer="two", key=first.key)

    def write(store: RecordStore) -> None:
        for _ in range(20):
            store.append_answers([record(), record()])

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, [first, same, other]))
    report = verify(first)
    assert report.ok, report.problems
    assert report.rows == 120
    ends = {head.chain: head.sequence for head in first.heads()}
    assert ends == {"answers:one": 80, "answers:two": 40}


def test_an_outcome_is_kept_once_and_a_correction_beside_it(
    store: RecordStore, record: Make
) -> None:
    one = record()
    store.append_answers([one])
    now = datetime.now(UTC)
    said = Outcome(one.id, now, correct=True, reviewer="ann")
    assert store.add_outcome(said) == "added"
    assert store.add_outcome(said) == "unchanged"
    assert store.add_outcome(Outcome(one.id, now, correct=False, reviewer="ann")) == "added"
    assert store.add_outcome(said) == "added"
    assert store.add_outcome(Outcome(one.id, now, reference="no")) == "added"
    words = [(item.reviewer, item.version, item.correct) for item in store.outcomes_of([one.id])]
    assert sorted(words) == [("", 1, None), ("ann", 1, True), ("ann", 2, False), ("ann", 3, True)]
    report = verify(store)
    assert (report.ok, report.rows, report.chains) == (True, 5, 2)


def test_replicas_that_hear_the_same_outcome_keep_it_once(
    url: str, open_store: Callable[..., RecordStore], record: Make
) -> None:
    stores = [open_store(url, writer=name) for name in ("one", "two", "three")]
    one = record()
    stores[0].append_answers([one])
    said = Outcome(one.id, datetime.now(UTC), correct=True, reviewer="ann")
    with ThreadPoolExecutor(3) as threads:
        told = list(threads.map(lambda store: store.add_outcome(said), stores))
    assert sorted(told) == ["added", "unchanged", "unchanged"]
    assert len(stores[0].outcomes_of([one.id])) == 1


def test_an_outcome_needs_an_answer_and_one_word(store: RecordStore) -> None:
    with pytest.raises(UnknownAnswer, match="01ABC"):
        store.add_outcome(Outcome("01ABC", datetime.now(UTC), correct=True))
    with pytest.raises(InvalidRecord, match="none is there"):
        Outcome("01ABC", datetime.now(UTC))
    with pytest.raises(InvalidRecord, match="several are there"):
        Outcome("01ABC", datetime.now(UTC), correct=True, reference="yes")
