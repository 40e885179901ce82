"""Certificates on the same data, and earlier ones of the same bundle: whose audits count where."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from probes.errors import DataError
from probes.model.policy import Policy
from service.offline.recertify import gather
from service.records.certificates import loaded
from service.records.outcome import Outcome
from service.records.retention import delete_before
from service.records.verify import verify
from service.records.voids import last_changes
from service.records.words import rule_on
from tests.service.records.line import START, dated, read, voided, with_claim


@pytest.fixture
def url(tmp_path: Path) -> str:
    """One database will do here: test_promise.py reads and writes the same on both."""
    return f"sqlite:///{tmp_path / 'records.db'}"


NEXT: dict[str, tuple[dict[str, Any], bool]] = {
    "the same terms": ({}, True),
    "another bundle": ({"bundle": "b-other"}, True),
    "a looser alpha": ({"alpha": 0.2}, True),
    "a stricter alpha": ({"alpha": 0.01}, True),
    "another delta": ({"delta": 0.01}, True),
    "other data": ({"data": "other"}, False),
    "judged answers since": ({"data": "records-1"}, False),
}


@pytest.mark.parametrize("name", NEXT)
def test_words_that_come_after_a_reload_count_against_the_next(
    store, line, bundle, name: str
) -> None:
    changes, same = NEXT[name]
    read(store, bundle)
    audits = line.audit([None] * 8)
    of = replace(bundle, id=changes.get("bundle", bundle.id))
    later = with_claim(of, "later", **{k: v for k, v in changes.items() if k != "bundle"})
    promise = read(store, later)
    assert promise.state == "stands"
    for audit in audits:
        line.judge(audit, wrong=True)
    promise.read()
    state = "void" if same else "stands"
    assert promise.state == read(store, later).state == state
    assert voided(store, {"c-never-later", "c-never"}) == ({"c-never-later"} if same else set())
    delete_before(store, START + timedelta(hours=4))
    assert read(store, later).state == state
    for audit in audits[4:]:
        line.judge(audit, wrong=False, reviewer="bob")
    promise.read()
    assert promise.state == read(store, later).state == "stands"  # corrected words lift it
    assert verify(store).ok


def test_renewals_on_the_same_data_do_not_start_from_nothing(store, line, bundle) -> None:
    states = []
    for week in range(6):
        renewed = with_claim(bundle, f"week {week}")
        line.audit([True], certificate=renewed.certificates["never"].id)
        states.append(read(store, renewed).state)
    assert states[0] == "stands"
    assert states[-1] == "void"
    assert len({claim for claim in loaded(store) if "never" in (claim[1] or "")}) == 6


def test_each_audit_counts_at_the_alpha_that_was_promised_of_it(store, line, bundle) -> None:
    """Three of ten wrong hold a promise of 40 %, and break one of 5 %."""
    loose = with_claim(bundle, "loose", alpha=0.4)
    read(store, loose)
    wrongs: list[bool | None] = [True, False, False] * 8
    line.audit(wrongs, certificate="c-never-loose")
    promise = read(store, bundle)
    assert promise.state == read(store, loose).state == "stands"
    assert promise.standing.judged == 0  # its error rate is of what it accepted itself
    line.audit(wrongs)
    promise.read()
    assert promise.state == "void"
    assert promise.standing.judged == len(wrongs)


def test_a_certificate_is_written_down_once(store, bundle, open_store, url) -> None:
    manual = replace(bundle, policy=Policy(mode="manual", accept_below=0.5))
    read(store, manual)
    assert loaded(store) == {}
    for where in (store, store, open_store(url, writer="two", key=store.key)):
        read(where, bundle)
    assert set(loaded(store)) == {(bundle.id, one.id) for one in bundle.certificates.values()}
    assert {one.alpha for one in loaded(store).values()} == {bundle.certificates["never"].alpha}
    assert verify(store).ok


EARLIER: dict[str, tuple[dict[str, Any] | None, bool]] = {
    "loaded": ({}, True),
    "never loaded with these records": (None, True),
    "loaded with a looser alpha that holds": ({"alpha": 0.9}, False),
}


@pytest.mark.parametrize("name", EARLIER)
def test_recertify_begins_behind_evidence_that_nobody_read(store, line, bundle, name: str) -> None:
    terms, spent = EARLIER[name]
    if terms is not None:
        read(store, with_claim(bundle, "old", **terms))
    audits = line.audit([None] * 6, certificate="c-never-old", **AUDIT)
    now = with_claim(bundle, "now", data="records-1")
    read(store, now)
    for audit in audits:
        line.judge(audit, wrong=True)
    line.audit([False] * 4, certificate="c-never-now", **AUDIT)
    dated(store)
    found = gather(store, now, START, datetime.now(UTC))
    assert (found.since > audits[4].created) is spent
    assert found.wrong.sum() == (1 if spent else 6)
    assert len(found.wrong) == found.wrong.sum() + 4


AUDIT: dict[str, Any] = {
    "self_consistency": "never", "risk": 0.2, "accept_below": 0.5, "audit_reference": 0.5,
}  # fmt: skip


def test_recertify_tests_the_bundles_own_certificates_under_a_manual_policy_too(
    store, line, bundle
) -> None:
    manual = replace(bundle, policy=Policy(mode="manual", accept_below=0.5))
    line.audit([True] * 5, **AUDIT)
    with pytest.raises(DataError, match="no audited answers"):
        gather(store, manual, START, datetime.now(UTC))
    assert "c-never" in voided(store, {"c-never"})


@pytest.mark.parametrize("confirmed", [6, 10])
def test_a_void_rests_on_the_words_that_its_test_counted(store, line, bundle, confirmed) -> None:
    records = line.audit([True] * 10)
    for record in records[:confirmed]:
        line.judge(record, wrong=True, reviewer="bob")
    assert read(store, bundle, confirmed=True).state == "void"
    basis = last_changes(store)["c-never"].basis
    assert basis is not None
    assert set(basis["wrong"]) == {record.id for record in records[:confirmed]}
    for record in records[confirmed:]:
        line.judge(record, wrong=False, reviewer="bob")
    assert read(store, bundle, confirmed=True).state == "void"
    for record in records[: confirmed - 2]:  # a third word: two of three
        line.judge(record, wrong=False, reviewer="carl")
    assert read(store, bundle, confirmed=True).state == "void"  # the second's word decided


def word(correct: bool, reviewer: str = "ann", position: int | None = None) -> Outcome:
    minute = timedelta(minutes=position or 0)
    return Outcome("1", START + minute, correct=correct, reviewer=reviewer, position=position)


CORRECTED: dict[str, tuple[list[Outcome], bool | None]] = {
    "wrong alone": ([word(False)], False),
    "right alone": ([word(True)], False),
    "wrong, then right, unnumbered": ([word(False), replace(word(True), version=2)], True),
    "right, then wrong, unnumbered": ([word(True), replace(word(False), version=2)], False),
    "three, the last right": (
        [word(True), replace(word(False), version=2), replace(word(True), version=3)], True),
    "two people, unnumbered": (
        [word(False), replace(word(True, "bob"), created=START + timedelta(hours=1))], True),
    "wrong unnumbered, right by a second": ([word(False), word(True, "bob", 1)], True),
    "wrong, and right by the same": ([word(False, position=1), word(True, position=2)], False),
    "wrong, and right by another": ([word(False, position=1), word(True, "bob", 2)], True),
    "taken back, and wrong by a second": (
        [word(False), replace(word(True), version=2), word(False, "bob", 1)], None),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRECTED)
def test_a_word_that_was_taken_back_is_corrected(name: str) -> None:
    words, corrected = CORRECTED[name]
    ruling = rule_on("yes", True, words)
    assert ruling is not None
    if corrected is None:  # due for a second look by chance alone
        assert ruling.corrected is (ruling.wrong is False)
    else:
        assert ruling.corrected is corrected


NAMES = [
    ("ann", "Ann", True), ("ann", " ANN ", True), ("ann", "ann\u200b", True),
    ("ann b", "Ann  B", True), ("ann", "\uff41nn", True), ("stra\u00dfe", "STRASSE", True),
    ("", " ", True), ("ann", "anne", False), ("ann", "", False), ("ann b", "annb", False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "same"), NAMES)
def test_one_person_is_one_reviewer(first: str, second: str, same: bool) -> None:
    ruling = rule_on("yes", True, [word(False, first, 1), word(True, second, 2)])
    assert ruling is not None
    assert ruling.wrong is same
    assert ruling.due is same
