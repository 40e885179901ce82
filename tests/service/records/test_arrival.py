"""Replicas' clocks go wrong, and replicas are cut off: the database's order and time count."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Connection, select, text, update

from service.gate.promise import UNREAD_SECONDS
from service.gate.record_keeping import try_to_read
from service.observe.promise_gauges import promise_gauges
from service.offline.recertify import gather
from service.records import audits
from service.records.audits import AuditTrail
from service.records.errors import RecordsUnavailable
from service.records.outcome import Outcome
from service.records.retention import delete_before
from service.records.store import RecordStore
from service.records.tables import answers
from service.records.verify import verify
from service.records.voids import voids_of
from tests.service.records.line import Line, read

Clock = Callable[[int], timedelta]
CLOCKS: dict[str, Clock] = {
    "right": lambda n: timedelta(),
    "one ahead by 400 days": lambda n: timedelta(days=400 * (n % 2)),
    "one behind by 20 days": lambda n: timedelta(days=-20 * (n % 2)),
    "one counts in 1970": lambda n: timedelta(days=-20_000 * (n % 2)),
    "each answer at random": lambda n: timedelta(seconds=random.Random(n).uniform(-1e6, 1e6)),
    "running backwards": lambda n: timedelta(hours=-n),
}

WORST = ("one ahead by 400 days", "one counts in 1970", "each answer at random")


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, and PostgreSQL where a test asks for it: there replicas write at once."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server = request.getfixturevalue("postgres")
    return server.empty_database()


@pytest.fixture
def lines(store: RecordStore, record, url: str, open_store) -> list[Line]:
    """Of two replicas."""
    other = open_store(url, migrated=False, writer="two", key=store.key)
    return [Line(store, record), Line(other, record)]


def drawn(lines: list[Line], clock: Clock, wrongs: list[bool | None]) -> list[str]:
    """Audits by turns, one after the other; their ids."""
    found = []
    for number, wrong in enumerate(wrongs):
        asked = datetime.now(UTC) + clock(number)
        image = random.randbytes(32).hex()
        (made,) = lines[number % 2].audit(
            [wrong], created=asked, image_sha256=image, audit_reference=0.5
        )
        found.append(made.id)
    return found


@pytest.mark.parametrize("clock", CLOCKS)
def test_audits_stand_in_the_order_in_which_they_arrived(store, lines, clock) -> None:
    trail = AuditTrail(store, "b-test", ["c-never"])
    told: list[str] = []
    for cutoff in (None, datetime.now(UTC) + timedelta(days=1), None):
        told += drawn(lines, CLOCKS[clock], [False, None, True])
        if cutoff is not None:
            delete_before(store, cutoff)  # numbers go on where retention left them
        trail.read()
        assert [sample.id for sample in trail.samples] == told
        assert [sample.number for sample in trail.samples] == list(range(1, len(told) + 1))
    assert verify(store).ok


def test_answers_that_are_no_audits_have_a_time_and_no_number(store, record) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    kept = record(created=before - timedelta(days=9))
    store.append_answers([kept])
    found = store.get(kept.id)
    assert found == kept
    assert found.audit_number is None
    assert before < found.arrived < before + timedelta(minutes=1)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_nothing_comes_to_stand_before_what_was_read(store, lines) -> None:
    """Replicas write at once, while another reads."""
    trail = AuditTrail(store, "b-test", ["c-never"])
    writers = [
        Thread(target=drawn, args=([one, one], CLOCKS["right"], [None] * 10)) for one in lines
    ]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    while len(seen) < 20:
        alive = any(writer.is_alive() for writer in writers)
        trail.read()
        now = [sample.id for sample in trail.samples]
        assert now[: len(seen)] == seen
        assert alive or len(now) == 20
        seen = now
    assert [sample.number for sample in trail.samples] == list(range(1, 21))


def told(*words: tuple[float, bool, str]) -> list[tuple[timedelta, bool, str]]:
    return [(timedelta(seconds=error), right, reviewer) for error, right, reviewer in words]


MINUTE, DAY = 60, 24 * 3600
TOLD: dict[str, list[tuple[timedelta, bool, str]]] = {
    "a correction by a right clock": told((0, False, "ann"), (1, True, "ann")),
    "a correction, a minute behind": told((0, False, "ann"), (-MINUTE, True, "ann")),
    "a correction in 1970": told((0, True, "ann"), (-20_000 * DAY, False, "ann")),
    "another reviewer, 20 days behind": told((0, False, "ann"), (-20 * DAY, True, "bob")),
    "behind a word 400 days ahead": told((400 * DAY, True, "ann"), (0, False, "bob")),
    "clocks that run backwards": told((0, True, "ann"), (-1, True, "bob"), (-2, False, "carl")),
}
"""What a clock is wrong by, the word, and whose it is, in the order in which they are told."""


@pytest.mark.parametrize("name", TOLD)
def test_the_word_that_is_told_last_counts(store, lines, record, name) -> None:
    kept, now = record(), datetime.now(UTC)
    store.append_answers([kept])
    for number, (error, right, reviewer) in enumerate(TOLD[name]):
        word = Outcome(kept.id, now + error, correct=right, reviewer=reviewer)
        assert lines[number % 2].store.add_outcome(word) == "added"
    words = [right for _, right, _ in TOLD[name]]
    assert [word.correct for word in store.outcomes_of([kept.id])] == words
    ((_, counts),) = store.judged()
    assert counts is not None
    assert counts.correct is words[-1]


def test_records_of_before_come_first_by_their_own_time(store, lines) -> None:
    old = drawn(lines, CLOCKS["running backwards"], [None] * 4)
    with store.writing() as connection:
        connection.execute(update(answers).values(arrived_us=None, audit_number=None))
    new = drawn(lines, CLOCKS["one behind by 20 days"], [None] * 4)
    trail = AuditTrail(store, "b-test", ["c-never"])
    trail.read()
    assert [sample.id for sample in trail.samples] == [*reversed(old), *new]


@pytest.mark.parametrize("clock", WORST)
def test_a_void_by_wrong_clocks_can_be_left_by_recertifying(
    store, lines, record, bundle, clock
) -> None:
    drawn(lines, CLOCKS[clock], [True] * 6)
    assert read(store, bundle).state == "void"
    (until,) = {void.until for void in voids_of(store, "b-test")}
    now = datetime.now(UTC)
    assert now - timedelta(minutes=1) < until < now
    limit = bundle.certificates["never"].threshold
    later = [
        record(
            bundle="b-test", reason="certificate_void", self_consistency="never", risk=limit / 2,
            accept_below=None, signals={"domain": {"inside": True}}, image_sha256=f"{number:064x}",
        )
        for number in range(3)
    ]  # fmt: skip
    store.append_answers(later)
    for one in later:
        lines[0].judge(one, wrong=False)
    end = datetime.now(UTC) + timedelta(days=500)  # what voided it stays out, whatever it is dated
    found = gather(store, bundle, datetime(1960, 1, 1, tzinfo=UTC), end)
    assert len(found.risk) == 3
    assert not found.wrong.any()
    assert found.since > until


@pytest.mark.parametrize("clock", WORST)
def test_a_deadline_runs_from_when_the_database_took_the_audit(store, lines, bundle, clock) -> None:
    drawn(lines, CLOCKS[clock], [None] * 6)
    promise = read(store, bundle, deadline_days=14)
    assert promise.state == "stands"
    left = promise._due - datetime.now(UTC)
    assert timedelta(days=14, minutes=-1) < left < timedelta(days=14)
    promise._due, promise._deadline = datetime.now(UTC), timedelta(0)  # as if they were over
    promise.read()
    assert promise.state == "void"


def away(statement_ms: int = 0) -> Iterator[Connection]:
    raise RecordsUnavailable("connection refused")
    yield


@pytest.mark.parametrize(
    ("wrongs", "seconds", "state"),
    [
        ([], 0, "stands"),
        ([], UNREAD_SECONDS - 60, "stands"),
        ([], UNREAD_SECONDS + 1, "unread"),
        ([], 10 * UNREAD_SECONDS, "unread"),
        ([True] * 6, 0, "void"),
        ([True] * 6, UNREAD_SECONDS + 1, "void"),
    ],
)
def test_a_replica_that_is_cut_off_stops_counting(
    store, lines, bundle, monkeypatch, wrongs, seconds, state
) -> None:
    drawn(lines, CLOCKS["right"], wrongs)
    promise = read(store, bundle)
    with monkeypatch.context() as cut:
        cut.setattr(store, "reading", contextmanager(away))
        promise._looked -= seconds
        try_to_read(promise)
        assert (promise.state, promise.void) == (state, state != "stands")
        (age,) = (one for one in promise_gauges(promise) if one.name.endswith("read_age_seconds"))
        assert seconds <= age.samples[0].value < seconds + 60
    try_to_read(promise)
    assert promise.state == ("void" if wrongs else "stands")
    assert promise.age < 60


def test_a_statement_that_hangs_does_not_stop_the_watch(
    postgres, open_store, bundle, monkeypatch
) -> None:
    store = open_store(postgres.empty_database())
    promise = read(store, bundle)
    monkeypatch.setattr(audits, "WATCH_MS", 100)
    with store.writing() as connection:
        connection.execute(text("LOCK TABLE answers, tails IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(RecordsUnavailable, match="timeout"):
            promise.read()
    promise.read()
    with store.reading() as connection:
        assert connection.scalars(select(answers.c.id)).all() == []
