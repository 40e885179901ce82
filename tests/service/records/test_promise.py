"""The promise: voided by audits in the records, alike for all replicas, and for good."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from probes.model.policy import Policy
from probes.monitor.drift import RiskHistogram
from probes.monitor.error_rate import Draw, ErrorMonitor
from probes.types import Interval, Missing
from service.gate.promise import Promise
from service.gate.record_keeping import try_to_read
from service.observe.promise_gauges import promise_gauges
from service.records.chain import append, lock_tail
from service.records.outcome import Outcome
from service.records.retention import delete_before
from service.records.tables import totals, voids
from service.records.verify import verify
from service.records.voids import last_changes
from tests.service.records.line import START, Line, dated, read, voided, with_claim

pytestmark = pytest.mark.anyio


def test_it_stands_while_audits_are_right(store, line, bundle) -> None:
    line.audit([False] * 30 + [True] + [None] * 5)
    promise = read(store, bundle)
    assert (promise.state, promise.void) == ("stands", False)
    assert (promise.standing.judged, promise.standing.awaiting) == (31, 5)
    error = promise.standing.error
    assert isinstance(error, Interval)
    assert error.estimate == pytest.approx(1 / 31)
    assert error.lower < 1 / 31 < error.upper
    outcomes = [False] * 30 + [True] + [None] * 5
    monitor = ErrorMonitor.replay(
        [Draw(str(n), str(n), 0.5, 0.5, wrong) for n, wrong in enumerate(outcomes)], 0.05, 0.05
    )
    assert error == monitor.interval()
    assert promise.standing.evidence == monitor.evidence < 1


def test_wrong_audits_void_it_for_all_replicas_and_for_good(
    store, line, bundle, url, open_store
) -> None:
    promise = read(store, bundle)
    other = open_store(url, migrated=False, writer="two", key=store.key)
    Line(other, line._record).audit([True] * 5)  # told to another replica
    assert promise.state == "stands"
    promise.read()
    assert promise.state == "void"
    assert voided(store, {"c-never", "c-auto", "c-other"}) == {"c-never", "c-auto"}

    again = read(other, bundle)  # another replica, or this one after a restart
    assert again.state == "void"
    delete_before(store, datetime.now(UTC))
    assert read(store, bundle).state == "void"
    assert verify(store).ok

    assert read(store, with_claim(bundle, "2")).state == "void"  # another claim, the same data
    assert read(store, with_claim(bundle, "3", data="e")).state == "stands"  # other data


def test_two_replicas_may_find_it_at_once(store, line, bundle, url, open_store) -> None:
    other = open_store(url, migrated=False, writer="two", key=store.key)
    first, second = Promise(store, bundle), Promise(other, bundle)
    line.audit([True] * 5)
    first.read()
    second.read()
    first.read()
    assert (first.state, second.state) == ("void", "void")
    assert verify(store).ok


def test_a_second_reviewers_word_lifts_what_a_mistaken_one_voided(store, line, bundle) -> None:
    records = line.audit([True] * 5)
    promise = read(store, bundle)
    assert promise.state == "void"
    certificates = {"c-never", "c-auto"}
    mistaken = records[2]
    line.judge(mistaken, wrong=False)  # the same person thinks again: kept, and no more than that
    promise.read()
    assert promise.state == "void"
    line.judge(mistaken, wrong=False, reviewer="bob")
    promise.read()
    assert promise.state == read(store, bundle).state == "stands"
    assert voided(store, certificates) == frozenset()
    assert {change.number for change in last_changes(store).values()} == {2}
    line.judge(mistaken, wrong=True, reviewer="eve")  # two of three
    promise.read()
    assert promise.state == "void"
    line.judge(mistaken, wrong=False, reviewer="dan")  # no asking on until somebody agrees
    promise.read()
    assert promise.state == "void"
    assert {change.number for change in last_changes(store).values()} == {3}
    line.audit([False] * 400)
    promise.read()
    assert promise.state == "void"  # good answers later take nothing back
    assert verify(store).ok


def test_what_was_found_right_is_not_made_wrong_by_who_looks_for_it(store, line, bundle) -> None:
    records = line.audit([False] * 200)
    for record in records:
        line.judge(record, wrong=True, reviewer="bob")
    promise = read(store, bundle)
    error = promise.standing.error
    assert isinstance(error, Interval)
    # the second word counts on the drawn tenth alone
    assert 0.05 < error.estimate < 0.15


def test_a_second_word_may_be_asked_for_before_a_void_counts(store, line, bundle) -> None:
    records = line.audit([True] * 5)
    promise = read(store, bundle, confirmed=True)
    assert (promise.state, promise.void) == ("suspected", True)
    assert voided(store, {"c-never"}) == frozenset()
    for record in records[:4]:
        line.judge(record, wrong=True, reviewer="bob")
    promise.read()
    assert promise.state == "suspected"
    line.judge(records[4], wrong=True, reviewer="bob")
    promise.read()
    assert promise.state == "void"
    assert voided(store, {"c-never"}) == {"c-never"}


def test_cannot_tell_counts_as_wrong(store, line, bundle) -> None:
    for record in line.audit([None] * 5):
        store.add_outcome(Outcome(record.id, record.created, cannot_tell=True))
    promise = read(store, bundle)
    assert promise.state == "void"
    assert promise.standing.judged == 5


def test_an_audit_past_its_deadline_counts_as_wrong_until_it_is_judged(store, line, bundle) -> None:
    records = line.audit([None] * 5, audit_reference=0.5)
    dated(store)
    assert read(store, bundle, deadline_days=0).state == "stands"
    assert read(store, bundle, deadline_days=60).state == "stands"
    promise = read(store, bundle, deadline_days=10)
    assert promise.state == "void"
    assert (promise.standing.judged, promise.standing.awaiting) == (0, 5)
    line.judge(records[0], wrong=False)
    promise.read()
    assert promise.state == "stands"


def test_audits_of_before_the_deadline_was_a_rule_have_none(store, line, bundle) -> None:
    line.audit([None] * 5)
    dated(store)
    assert read(store, bundle, deadline_days=10).state == "stands"


def test_a_deadline_passes_while_nothing_is_written(store, line, bundle, monkeypatch) -> None:
    line.audit([None] * 5, audit_reference=0.5)
    dated(store)
    promise = read(store, bundle, deadline_days=60)
    assert promise.state == "stands"
    assert promise._due is not None
    promise._due = START  # as if the sixty days were over
    promise._deadline = timedelta(days=10)
    promise.read()
    assert promise.state == "void"


def test_all_answers_on_an_image_are_one_bet(store, line, bundle) -> None:
    line.audit([True] * 30, image_sha256="ab" * 32)
    assert read(store, bundle).state == "stands"  # one image proves nothing
    line.audit([True] * 5)
    assert read(store, bundle).state == "void"


def test_the_order_of_words_is_the_databases(store, line, bundle) -> None:
    one, *_ = line.audit([None])
    now = datetime.now(UTC)
    store.add_outcome(Outcome(one.id, now, correct=False, reviewer="ann"))
    behind = now - timedelta(minutes=1)  # told to a replica whose clock is
    store.add_outcome(Outcome(one.id, behind, correct=True, reviewer="bob"))
    assert [word.reviewer for word in store.outcomes_of([one.id])] == ["ann", "bob"]
    error = read(store, bundle).standing.error
    assert isinstance(error, Interval)
    assert error.estimate == 0


def test_a_void_of_an_earlier_version_stays_until_a_word_is_corrected(store, line, bundle) -> None:
    records = line.audit([True] * 3)  # which voided it, by the test of that time
    row = {"certificate": "c-never", "created_us": 0, "alpha": 0.05, "delta": 0.05,
           "wrong": 3, "audits": 3}  # fmt: skip
    with store.writing() as connection:
        append(connection, voids, lock_tail(connection, voids, "one", store.key), [row], store.key)
    promise = read(store, bundle)
    assert promise.state == "void"
    line.judge(records[0], wrong=False, reviewer="bob")
    promise.read()
    assert promise.state == read(store, bundle).state == "stands"
    assert verify(store).ok


def test_only_audits_under_these_certificates_count(store, line, bundle) -> None:
    line.audit([True] * 5, audit=False, decision="accept", reason="risk_below_threshold")
    line.audit([True] * 5, audit=False, audit_probability=None, reason="risk_above_threshold")
    line.audit([True] * 5, certificate="c-old")
    line.audit([True] * 5, bundle="b-other")
    promise = read(store, bundle)
    assert promise.state == "stands"
    assert promise.standing.error == Missing("no_outcomes")


def test_retention_does_not_make_it_forget(store, line, bundle) -> None:
    line.audit([True] + [False] * 11 + [None] * 2)
    line.audit([True, False], image_sha256=f"{1:064x}")  # of the first image, and younger
    running = read(store, bundle)
    before = running.standing
    deleted = delete_before(store, START + timedelta(hours=8))
    assert deleted.answers == 7
    running.read()
    restarted = read(store, bundle)
    for promise in (running, restarted):
        assert promise.standing == before
    line.audit([True])
    delete_before(store, START + timedelta(hours=10))
    running.read()
    restarted.read()
    assert running.standing == restarted.standing
    assert running.standing.error != before.error
    delete_before(store, datetime.now(UTC))
    assert read(store, bundle).standing.evidence == running.standing.evidence


def test_counts_of_an_earlier_version_go_on_counting(store, line, bundle) -> None:
    row = {"certificate": "c-never", "bundle": "b-test", "probability": 0.5,
           "wrong": 3, "correct": 96, "awaiting": 1}  # fmt: skip
    with store.writing() as connection:
        connection.execute(insert(totals), row)
    line.audit([True])
    promise = read(store, bundle)
    error = promise.standing.error
    assert isinstance(error, Interval)
    assert error.estimate == pytest.approx(4 / 100)
    assert (promise.standing.judged, promise.standing.awaiting) == (100, 1)
    assert promise.state == "stands"


def test_signals_are_judged_by_the_audits(store, line, bundle) -> None:
    random = np.random.default_rng(0)
    for wrong in [True, False] * 12:
        signals = {
            "hidden_state_probe": {"logit": 2.0 * wrong + random.normal(), "layers": [1]},
            "attention": {"missing": "not_read"},
        }
        line.audit([wrong], signals=signals, risk=0.5)
    promise = read(store, bundle)
    probe = promise.standing.auroc["hidden_state_probe"]
    assert isinstance(probe, Interval)
    assert 0.7 < probe.estimate <= 1
    risk = promise.standing.auroc["risk"]
    assert isinstance(risk, Interval)
    assert risk.estimate == 0.5
    assert "attention_spatial_entropy" not in promise.standing.auroc


def test_in_manual_mode_the_error_is_told_and_nothing_is_void(store, line, bundle) -> None:
    line.audit([True] * 6, certificate=None)
    promise = read(store, replace(bundle, policy=Policy(mode="manual", accept_below=0.5)))
    error = promise.standing.error
    assert isinstance(error, Interval)
    assert (promise.state, error.estimate) == ("stands", 1.0)


def test_what_cannot_be_read_does_not_count_as_fine(store, bundle, monkeypatch) -> None:
    promise = read(store, bundle)

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(promise, "read", broken)
    try_to_read(promise)
    assert promise.void


def test_the_drift_is_shown_where_the_bundle_has_a_reference(store, bundle) -> None:
    assert Promise(store, bundle).drift is None
    reference = RiskHistogram((0.5,), (500, 500)).to_dict()
    promise = Promise(store, replace(bundle, training={"risk_reference": reference}))
    names = {family.name for family in promise_gauges(promise)}
    assert "vlm_gate_risk_drift_ratio" not in names  # the window is not full
    promise.observe(Missing("signal_unavailable"), "none")
    for number in range(1000):
        promise.observe(0.9, str(number))
    samples = {family.name: family.samples for family in promise_gauges(promise)}
    assert samples["vlm_gate_risk_drift_ratio"][0].value == pytest.approx(500)


def test_a_restart_finds_the_drift_where_it_was(store, record, bundle) -> None:
    drifting = replace(bundle, training={"risk_reference": RiskHistogram((0.1,), (9, 9)).to_dict()})
    promise = read(store, drifting, window=120)
    random = np.random.default_rng(0)
    written = []
    for number in range(300):
        risk = float(random.random() / 4) if number % 7 else Missing("signal_unavailable")
        image = f"{number // 2:064x}"
        promise.observe(risk, image)
        written.append(record(bundle="b-test", risk=risk, stage=1, image_sha256=image))
    store.append_answers(written)
    store.append_answers([record(bundle="b-other", risk=0.9, stage=1) for _ in range(20)])
    restarted = read(store, drifting, window=120)
    assert promise.drift is not None
    assert restarted.drift is not None
    assert restarted.drift.ratio() == pytest.approx(promise.drift.ratio())


async def test_a_void_promise_escalates_everything(url, serve, bundled, frame) -> None:
    async def ask(number: int = 0) -> dict[str, Any]:
        sent = {"image": frame(number)}
        reply = await client.post("/v1/answer", data={"question": "q"}, files=sent)
        body: dict[str, Any] = reply.json()
        return body

    async with serve(bundled(threshold=0.99), records_url=url, audit_rate=1.0) as client:
        promise = client._transport.app.state.gate.record_keeping.promise
        for number in range(5):
            told = await ask(number)
            assert told["reason"] == "audit"
            reply = await client.post("/v1/outcomes", json={"id": told["id"], "correct": False})
            assert reply.status_code == 200
        standing = (await client.get("/metrics")).text
        promise.read()
        told = await ask()
        metrics = (await client.get("/metrics")).text
        policy = (await client.get("/v1/policy")).json()
    assert "vlm_gate_certificate_valid 1.0" in standing
    assert (told["decision"], told["reason"]) == ("escalate", "certificate_void")
    assert told["certificate"] == {"missing": "certificate_void"}
    assert policy["accept_below"] is None
    for line in (
        "vlm_gate_certificate_valid 0.0",
        'vlm_gate_audit_error_ratio{bound="estimate"} 1.0',
        "vlm_gate_audits_awaiting 0.0",
        'vlm_gate_audit_error_ratio{bound="upper"} 1.0',
        "vlm_gate_promise_evidence_ratio 1.2",
    ):
        assert line in metrics
    async with serve(bundled(threshold=0.99), records_url=url) as client:  # after a restart
        assert (await ask())["reason"] == "certificate_void"
