"""The promise: voided by audits in the records, alike for all replicas, and for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from probes.bundle import Bundle
from probes.drift import RiskHistogram
from probes.monitor import ErrorMonitor
from probes.policy import Policy
from probes.types import Interval, Missing
from service.promise import Promise, try_to_read
from service.records.answer import AnswerRecord
from service.records.outcome import Outcome
from service.records.retention import delete_before
from service.records.store import RecordStore
from service.records.verify import verify
from service.records.voids import voided

pytestmark = pytest.mark.anyio
START = datetime.now(UTC) - timedelta(days=30)


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
            records.append(self._record(created=START + timedelta(hours=self._count), **fields))
        self.store.append_answers(records)
        for record, wrong in zip(records, wrongs, strict=True):
            if wrong is not None:
                self.judge(record, wrong)
        return records

    def judge(self, record: AnswerRecord, wrong: bool) -> None:
        told = record.created + timedelta(minutes=1)
        self.store.add_outcome(Outcome(record.id, told, correct=not wrong))


@pytest.fixture
def line(store: RecordStore, record) -> Line:
    return Line(store, record)


@pytest.fixture
def bundle(bundled) -> Bundle:
    made: Bundle = bundled()
    return made


def read(store: RecordStore, bundle: Bundle) -> Promise:
    promise = Promise(store, bundle, rate=0.5)
    assert promise.void  # what was not read yet does not count as fine
    promise.read()
    return promise


def test_it_stands_while_audits_are_right(store, line, bundle) -> None:
    line.audit([False] * 30 + [True] + [None] * 5)
    promise = read(store, bundle)
    assert (promise.state, promise.void) == ("stands", False)
    assert (promise.standing.judged, promise.standing.awaiting) == (31, 5)
    error = promise.standing.error
    assert isinstance(error, Interval)
    assert error.estimate == pytest.approx(1 / 31)
    assert error.lower < 1 / 31 < error.upper
    monitor = ErrorMonitor.replay(
        [(0.5, False)] * 30 + [(0.5, True)] + [(0.5, None)] * 5, 0.05, 0.05, 0.5
    )
    assert error == monitor.interval()


def test_wrong_audits_void_it_for_all_replicas_and_for_good(
    store, line, bundle, url, open_store
) -> None:
    promise = read(store, bundle)
    other = open_store(url, migrated=False, writer="two", key=store.key)
    Line(other, line._record).audit([True] * 3)  # told to another replica
    assert promise.state == "stands"
    promise.read()
    assert promise.state == "void"
    assert voided(store, {"c-never", "c-auto", "c-other"}) == {"c-never", "c-auto"}

    again = read(other, bundle)  # another replica, or this one after a restart
    assert again.state == "void"
    delete_before(store, datetime.now(UTC))
    assert read(store, bundle).state == "void"
    assert verify(store).ok

    anew = replace(
        bundle,
        attempts=tuple(
            replace(one, outcome=replace(one.outcome, id=f"{one.outcome.id}-2"))
            for one in bundle.attempts
        ),
    )
    assert read(store, anew).state == "stands"  # a person has certified again


def test_two_replicas_may_find_it_at_once(store, line, bundle, url, open_store) -> None:
    other = open_store(url, migrated=False, writer="two", key=store.key)
    first, second = Promise(store, bundle, 0.5), Promise(other, bundle, 0.5)
    line.audit([True] * 3)
    first.read()
    second.read()
    first.read()
    assert (first.state, second.state) == ("void", "void")
    assert verify(store).ok


def test_a_correction_counts_and_what_was_void_stays_so(store, line, bundle) -> None:
    one, two = line.audit([True, None])
    promise = read(store, bundle)
    store.add_outcome(Outcome(one.id, datetime.now(UTC), correct=True))
    store.add_outcome(Outcome(two.id, datetime.now(UTC), reference="NO."))  # it said yes
    promise.read()
    error = promise.standing.error
    assert isinstance(error, Interval)
    assert error.estimate == 0.5
    line.audit([True] * 4)
    promise.read()
    assert promise.state == "void"
    line.audit([False] * 40)
    promise.read()
    assert promise.state == "void"


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
    running = read(store, bundle)
    before = running.standing
    deleted = delete_before(store, START + timedelta(hours=8))
    assert deleted.answers == 7
    running.read()
    restarted = read(store, bundle)
    for promise in (running, restarted):
        assert promise.standing.error == before.error
        assert promise.standing.awaiting == before.awaiting
    line.audit([True])
    delete_before(store, START + timedelta(hours=10))
    running.read()
    restarted.read()
    assert running.standing == restarted.standing
    assert running.standing.error != before.error


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
    assert Promise(store, bundle, 0.5).drift is None
    reference = RiskHistogram((0.5,), (500, 500)).to_dict()
    promise = Promise(store, replace(bundle, training={"risk_reference": reference}), 0.5)
    names = {family.name for family in promise.collect()}
    assert "vlm_gate_risk_drift_ratio" not in names  # the window is not full
    promise.observe(Missing("signal_unavailable"))
    for _ in range(1000):
        promise.observe(0.9)
    samples = {family.name: family.samples for family in promise.collect()}
    assert samples["vlm_gate_risk_drift_ratio"][0].value == pytest.approx(500)


async def test_a_void_promise_escalates_everything(url, serve, bundled, png) -> None:
    async def ask() -> dict[str, Any]:
        reply = await client.post("/v1/answer", data={"question": "q"}, files={"image": png})
        body: dict[str, Any] = reply.json()
        return body

    async with serve(bundled(threshold=0.99), records_url=url, audit_rate=1.0) as client:
        promise = client._transport.app.state.gate.keeper.promise
        for _ in range(3):
            told = await ask()
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
    ):
        assert line in metrics
    async with serve(bundled(threshold=0.99), records_url=url) as client:  # after a restart
        assert (await ask())["reason"] == "certificate_void"
