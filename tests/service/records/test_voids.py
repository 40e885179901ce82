"""What lifts a void, and what does not: for each, several ways to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from probes.errors import DataError
from probes.guarantee.ledger import anchors
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.certificate import Certificate
from service.gate.audit_replay import NAMED_AUDITS
from service.offline.recertify import gather
from service.records.answer import AnswerRecord
from service.records.canonical import microseconds
from service.records.chain import append, lock_tail
from service.records.outcome import Outcome, outcome_row
from service.records.retention import delete_before
from service.records.store import RecordStore
from service.records.tables import outcomes, voids
from service.records.verify import verify
from service.records.voids import last_changes
from tests.service.records.line import START, Line, dated, read, voided

SETTINGS: dict[str, Any] = {"deadline_days": 10}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """One database will do here: test_promise.py reads and writes the same on both."""
    return f"sqlite:///{tmp_path / 'records.db'}"


@dataclass
class Case:
    """A certificate that five wrong audits voided; two more are right, and one overdue."""

    store: RecordStore
    line: Line
    wrong: list[AnswerRecord]
    right: list[AnswerRecord]
    overdue: list[AnswerRecord]


@pytest.fixture
def case(store: RecordStore, line: Line, bundle: Bundle, monkeypatch) -> Case:
    with monkeypatch.context() as then:
        then.setattr("service.records.store.database_now", lambda connection: START)
        right = line.audit([False, False])
        wrong = line.audit([True] * 4)
        overdue = line.audit([None], audit_reference=0.5)
    made = Case(store, line, wrong, right, overdue)
    promise = read(store, bundle, **SETTINGS)
    assert promise.state == "void"
    assert promise.standing.evidence is not None
    assert promise.standing.evidence >= 1
    return made


def again(case: Case, who: str, wrong: bool = False, count: int = 4) -> None:
    for record in case.wrong[:count]:
        case.line.judge(record, wrong, reviewer=who)


def beside(case: Case, **changes: Any) -> None:
    """Right audits on the image of each wrong one."""
    for record in case.wrong:
        case.line.audit([False] * 5, image_sha256=record.image_sha256, **changes)


def forget_words(case: Case) -> None:
    """The words were told by a clock that is a day behind, and are older than their answers."""
    with case.store.writing() as connection:
        early = microseconds(START - timedelta(days=1))
        connection.execute(update(outcomes).values(created_us=early))
    delete_before(case.store, START)


NO_LIFT: dict[str, tuple[Callable[[Case], object], dict[str, Any]]] = {
    "many right ones later": (lambda c: c.line.audit([False] * 60), SETTINGS),
    "right ones on the same images": (beside, SETTINGS),
    "right ones that came late, dated before all": (
        lambda c: c.line.audit([False] * 60, created=START), SETTINGS),
    "right ones on the same images, dated before": (lambda c: beside(c, created=START), SETTINGS),
    "the first reviewer thinks again": (lambda c: again(c, "ann"), SETTINGS),
    "a second reviewer agrees": (lambda c: again(c, "bob", wrong=True), SETTINGS),
    "agrees, and right ones come between": (
        lambda c: (again(c, "bob", wrong=True), beside(c, created=START)), SETTINGS),
    "a third alone, after one who agreed": (
        lambda c: (again(c, "bob", wrong=True), again(c, "eve"), again(c, "dan")), SETTINGS),
    "no deadline any more": (lambda c: None, {"deadline_days": 0}),
    "a longer deadline": (lambda c: None, {"deadline_days": 300}),
    "second words asked for from now on": (lambda c: None, {**SETTINGS, "confirmed": True}),
    "retention": (lambda c: delete_before(c.store, datetime.now(UTC)), SETTINGS),
    "retention, and no deadline any more": (
        lambda c: delete_before(c.store, datetime.now(UTC)), {"deadline_days": 0}),
    "words of a clock behind are deleted": (forget_words, SETTINGS),
    "one corrected, and right ones hide the rest": (
        lambda c: (c.line.judge(c.right[0], True, "bob"), beside(c, created=START)), SETTINGS),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_LIFT)
def test_nothing_else_lifts_a_void(case: Case, bundle: Bundle, name: str) -> None:
    act, settings = NO_LIFT[name]
    act(case)
    for _ in range(2):  # and after a restart
        promise = read(case.store, bundle, **settings)
        assert promise.state == "void"
        assert promise.standing.evidence is not None
        assert promise.standing.evidence >= 1
    assert voided(case.store, {"c-never"}) == {"c-never"}


def corrected_then_deleted(case: Case) -> None:
    again(case, "bob", count=1)
    delete_before(case.store, datetime.now(UTC))


LIFT: dict[str, Callable[[Case], object]] = {
    "a second reviewer corrects": lambda c: again(c, "bob", count=1),
    "two of three": lambda c: (again(c, "bob", count=1), again(c, "eve", count=1)),
    "an overdue audit was right": lambda c: c.line.judge(c.overdue[0], wrong=False),
    "corrected, and deleted before anybody read it": corrected_then_deleted,
}


@pytest.mark.parametrize("name", LIFT)
def test_corrected_words_lift_it(case: Case, bundle: Bundle, name: str) -> None:
    LIFT[name](case)
    assert read(case.store, bundle, **SETTINGS).state == "stands"
    assert voided(case.store, {"c-never", "c-auto"}) == frozenset()
    assert read(case.store, bundle, **SETTINGS).state == "stands"
    assert verify(case.store).ok


def test_what_is_found_after_a_correction_is_a_void_of_its_own(case, bundle) -> None:
    again(case, "bob", count=1)
    case.line.audit([True] * 3)  # with the three that are left
    promise = read(case.store, bundle, **SETTINGS)
    assert promise.state == "void"
    case.line.audit([False] * 99, created=START)  # between them
    assert read(case.store, bundle, **SETTINGS).state == "void"
    change = last_changes(case.store)["c-never"]
    assert change.basis is not None
    assert len(change.basis["wrong"]) == 7


@pytest.mark.parametrize("named", [True, False])
def test_of_unnamed_words_the_first_counts(store, line, bundle, named: bool) -> None:
    for record in line.audit([None] * 5):
        line.judge(record, wrong=True, reviewer="")
        line.judge(record, wrong=False, reviewer="bob" if named else "")
    assert read(store, bundle).state == ("stands" if named else "void")


def test_unnamed_words_do_not_confirm_each_other(store, line, bundle) -> None:
    records = line.audit([None] * 5)
    for record in records:
        line.judge(record, wrong=True, reviewer="")
        store.add_outcome(Outcome(record.id, record.created, cannot_tell=True))
    assert read(store, bundle, confirmed=True).state == "suspected"
    for record in records:
        line.judge(record, wrong=True, reviewer="bob")
    assert read(store, bundle, confirmed=True).state == "void"


def void_of_before(store: RecordStore, *certificates: str) -> None:
    """As a version before 0006 wrote it, by its own test."""
    rows = [
        {"certificate": name, "created_us": microseconds(START), "alpha": 0.05, "delta": 0.05,
         "wrong": 9, "audits": 30} for name in certificates
    ]  # fmt: skip
    with store.writing() as connection:
        append(connection, voids, lock_tail(connection, voids, "one", store.key), rows, store.key)


BEFORE: dict[str, tuple[Callable[[Line, list[AnswerRecord]], object], str]] = {
    "nothing": (lambda line, wrong: None, "void"),
    "a second reviewer agrees": (lambda line, wrong: line.judge(wrong[0], True, "bob"), "void"),
    "the first thinks again": (lambda line, wrong: line.judge(wrong[0], False), "void"),
    "right ones": (lambda line, wrong: line.audit([False] * 50), "void"),
    "a word on what was right": (
        lambda line, wrong: [line.judge(one, True, "bob") for one in line.audit([False] * 30)],
        "void"),
    "deleted": (lambda line, wrong: delete_before(line.store, datetime.now(UTC)), "void"),
    "corrected": (lambda line, wrong: line.judge(wrong[0], False, "bob"), "stands"),
    "corrected and deleted": (
        lambda line, wrong: (
            line.judge(wrong[0], False, "bob"), delete_before(line.store, datetime.now(UTC))),
        "stands"),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_a_void_of_a_version_before(store, line, bundle, name: str) -> None:
    act, state = BEFORE[name]
    line.audit([False] * 30)
    wrong = line.audit([True] * 2)
    void_of_before(store, "c-never", "c-auto")
    assert read(store, bundle).state == "void"  # and names its data from now on
    act(line, wrong)
    assert read(store, bundle).state == read(store, bundle).state == state
    assert verify(store).ok


def claim(
    served: Bundle, /, data: str = "d", images: tuple[str, ...] | None = None, **changes: Any
):
    """The bundle with one certificate, of the new kind."""
    fields = {
        "alpha": 0.05, "delta": 0.05, "n": 200, "k": 0, "threshold": 0.5,
        "self_consistency": "never", "samples": 0, "bundle": served.id, "model": "fake",
        "data": data, "created": START.isoformat(), "expires": "2036-01-01T00:00:00+00:00",
        "test": "betting", "unit": "group", "estimand": "accepted_answer", "most_per_group": 1,
        "groups": 200, "level": 0.04,
    }  # fmt: skip
    known = {} if images is None else {"anchors": list(anchors(images, "fake"))}
    made = Certificate.sealed(**{**fields, **known, **changes})
    attempt = CertificateAttempt(made.alpha, "never", made)
    return replace(served, id=made.bundle, alpha=made.alpha, attempts=(attempt,))


IMAGES = tuple(f"image {number}" for number in range(200))
SAME: dict[str, tuple[dict[str, Any], bool]] = {
    "a stricter alpha": ({"alpha": 0.049}, True),
    "a looser alpha": ({"alpha": 0.2}, True),
    "another delta": ({"delta": 0.01}, True),
    "more of a group": ({"most_per_group": 7}, True),
    "another bundle (a seed, a question mode)": ({"bundle": "b-seed-1"}, True),
    "another threshold, made later": (
        {"threshold": 0.4, "created": "2026-06-01T00:00:00+00:00"},
        True,
    ),
    "collected anew": ({"data": "e", "images": IMAGES}, True),
    "less a few images, another order": ({"data": "e", "images": IMAGES[180:3:-1]}, True),
    "half of it, and as much again": (
        {"data": "e", "images": (*IMAGES[:100], *(f"new {n}" for n in range(100)))},
        True,
    ),
    "other images": ({"data": "e", "images": tuple(f"new {n}" for n in range(200))}, False),
    "judged answers since": ({"data": "records-1"}, False),
}


@pytest.mark.parametrize(
    ("name", "old"),
    [
        (name, old)
        for old in (False, True)
        for name in SAME
        if not old or "images" not in SAME[name][0]
    ],
)
def test_what_voided_a_certificate_voids_all_on_its_data(
    store, line, bundle, name: str, old: bool
) -> None:
    changes, same = SAME[name]
    first = bundle if old else claim(bundle, images=IMAGES)
    records = line.audit([True] * 5, certificate=first.certificates["never"].id)
    assert read(store, first).state == "void"
    promise = read(store, claim(bundle, **changes))
    assert promise.state == ("void" if same else "stands")
    line.judge(records[0], wrong=False, reviewer="bob")
    promise.read()
    assert promise.state == "stands"  # where its audits are read, or not served any more
    assert verify(store).ok


def test_a_void_without_data_is_that_of_all_that_the_bundle_was_certified_on(
    store, line, bundle
) -> None:
    """Nobody served the old bundle with this version: its id alone tells the data."""
    line.audit([True] * 2)
    void_of_before(store, "c-never")
    assert read(store, claim(bundle, data="unknown")).state == "void"
    assert read(store, claim(bundle, data="records-2")).state == "stands"
    assert read(store, claim(replace(bundle, id="b-other"), data="other")).state == "stands"
    assert read(store, claim(replace(bundle, id="b-other"), data="unknown")).state == "void"


def test_frames_of_a_named_scene_are_one_bet(store, line, bundle) -> None:
    line.audit([True] * 30, group="part 17")
    assert read(store, bundle).state == "stands"  # one scene proves nothing
    delete_before(store, datetime.now(UTC))
    line.audit([True] * 20, group="part 17")
    assert read(store, bundle).state == "stands"
    for number in range(5):
        line.audit([True], group=f"part {number}")
    assert read(store, bundle).state == "void"


def test_a_group_as_wide_as_the_line_does_not_hide_it(store, line, bundle) -> None:
    line.audit([False] * (NAMED_AUDITS - 1), group="line 3")
    promise = read(store, bundle)
    line.audit([True], group="line 3")
    promise.read()
    assert promise.state == "stands"
    line.audit([True] * 9, group="line 3")
    promise.read()
    assert promise.state == "void"


def test_a_long_good_past_does_not_shield_what_voided_it(store, record, bundle) -> None:
    """Six hundred audits at 1 in 30 wrong, then half wrong; together 7 of 100 are."""
    wrongs = [number % 30 == 0 for number in range(600)] + [number % 2 == 0 for number in range(60)]
    limit = bundle.certificates["never"].threshold
    records = [
        record(
            created=START + timedelta(minutes=number), bundle="b-test", certificate="c-never",
            reason="audit", audit=True, audit_probability=0.5, audit_reference=0.5, stage=1,
            image_sha256=f"{number:064x}", self_consistency="never", risk=limit / 2,
            accept_below=limit,
        )
        for number in range(len(wrongs))
    ]  # fmt: skip
    store.append_answers(records)
    dated(store)
    rows = []
    for one, wrong in zip(records, wrongs, strict=True):
        word = Outcome(one.id, one.created, correct=not wrong, reviewer="ann", position=1)
        rows.append(outcome_row(word))
    with store.writing() as connection:
        tail = lock_tail(connection, outcomes, store.writer, store.key)
        append(connection, outcomes, tail, rows, store.key)
    end = datetime.now(UTC)
    with pytest.raises(DataError, match="second reviewer"):
        gather(store, bundle, START, end, confirmed=True)
    found = gather(store, bundle, START, end)  # no service has read the audits yet
    assert voided(store, {"c-never"}) == {"c-never"}
    until = last_changes(store)["c-never"].until
    assert START + timedelta(minutes=600) <= until < START + timedelta(minutes=659)
    assert found.since == until + timedelta(microseconds=1)
    assert len(found.risk) == (START + timedelta(minutes=659) - until) // timedelta(minutes=1)
    assert 0.4 < found.wrong.mean() < 0.6
    late = START + timedelta(minutes=655)
    assert gather(store, bundle, late, end).since == late
