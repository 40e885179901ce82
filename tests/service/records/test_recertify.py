"""A person certifies again from what the records hold, and the promise stands again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from probes.errors import DataError
from probes.guarantee.betting import Ladder
from probes.guarantee.learn_then_test import certify
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.certificate import Certificate
from probes.model.folder import read_bundle
from probes.model.slicing import Slicing
from probes.types import Missing
from service.cli import app
from service.gate.promise import Promise
from service.offline.recertify import gather
from service.records.outcome import Outcome
from service.records.store import RecordStore

pytestmark = pytest.mark.anyio
START = datetime(2026, 3, 1, tzinfo=UTC)
INSIDE = {"domain": {"distance": 1.0, "inside": True}}
OUTSIDE = {"domain": {"distance": 9.0, "inside": False}}


@pytest.fixture
def bundle(bundled) -> Bundle:
    made: Bundle = bundled(threshold=0.5)
    return made


@pytest.fixture
def tell(store: RecordStore, record) -> Callable[..., None]:
    """Write an answer, and what was said of it (None: nothing)."""
    count = 0

    def write(correct: bool | None, **changes: Any) -> None:
        nonlocal count
        count += 1
        fields: dict[str, Any] = {
            "created": START + timedelta(hours=count),
            "bundle": "b-test",
            "self_consistency": "never",
            "risk": 0.2,
            "stage": 1,
            "accept_below": 0.5,
            "certificate": "c-never",
            "reason": "audit",
            "audit": True,
            "audit_probability": 0.1,
            "signals": INSIDE,
            "image_sha256": f"{count:064x}",
            **changes,
        }
        made = record(**fields)
        store.append_answers([made])
        if correct is not None:
            store.add_outcome(Outcome(made.id, made.created, correct=correct))

    return write


VOID = {
    "reason": "certificate_void", "certificate": None, "audit": False,
    "audit_probability": None, "accept_below": None,
}  # fmt: skip
END = START + timedelta(days=30)


def test_audits_count_and_what_was_not_judged_counts_as_wrong(store, tell, bundle) -> None:
    for correct in (True, True, False, None):
        tell(correct)
    found = gather(store, bundle, START, END)
    assert (len(found.risk), found.wrong.sum(), found.unjudged) == (4, 2, 1)
    assert found.limit == 0.5
    before = found.fingerprint
    tell(True)
    assert gather(store, bundle, START, END).fingerprint != before


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": "b-other"},
        {"self_consistency": "auto"},
        {"self_consistency": "always"},
        {"audit": False, "reason": "risk_below_threshold", "decision": "accept"},
        {"certificate": None},  # accepted under a manual policy
        {**VOID, "reason": "risk_above_threshold"},
        {**VOID, "reason": "no_certificate"},
        {**VOID, "signals": OUTSIDE},
        {**VOID, "risk": 0.4, "reject_above": 0.3},
        {**VOID, "risk": 0.7},
        {**VOID, "risk": Missing("signal_unavailable")},
        {"created": START - timedelta(days=1)},
        {"created": END},
    ],
)
def test_answers_whose_outcome_may_have_chosen_them_stay_out(store, tell, bundle, changes) -> None:
    tell(False, **changes)
    with pytest.raises(DataError, match="no audited answers"):
        gather(store, bundle, START, END)


def test_while_it_was_void_everything_went_to_people(store, tell, bundle) -> None:
    for correct in (True, False, None):
        tell(correct, **VOID)
    found = gather(store, bundle, START, END)
    assert (len(found.risk), found.wrong.sum(), found.unjudged) == (3, 2, 1)


def test_of_unlike_chances_the_smallest_weighs_one(store, tell, bundle) -> None:
    tell(True)
    tell(True, **VOID)
    tell(False, audit_probability=0.2)
    found = gather(store, bundle, START, END)
    assert sorted(found.weight) == pytest.approx([0.1, 0.5, 1.0])
    assert list(found.wrong[found.weight == 0.5]) == [True]


def test_nothing_is_known_above_the_lowest_threshold_of_the_window(store, tell, bundle) -> None:
    tell(True, accept_below=0.3)
    tell(True, risk=0.4)
    found = gather(store, bundle, START, END)
    assert (found.limit, list(found.risk)) == (0.3, [0.2])


def test_a_bundle_without_a_certificate_has_no_such_records(store, bundle) -> None:
    with pytest.raises(DataError, match="no certificate for self-consistency 'never'"):
        gather(store, replace(bundle, attempts=()), START, END)
    with pytest.raises(DataError, match="per slice"):
        gather(store, replace(bundle, slicing=Slicing("slice", "line")), START, END)


async def test_a_void_promise_is_lifted_by_a_person(
    url, serve, bundled, saved, tmp_path, monkeypatch
) -> None:
    """Void, judged, certified again, reloaded: accepted again, and after a restart too."""
    import io

    from PIL import Image

    first = saved(bundled(threshold=0.9), tmp_path / "first")
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "first")
    started = datetime.now(UTC) - timedelta(seconds=1)

    async def ask(client: Any, number: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), number, dtype=np.uint8)).save(buffer, "PNG")
        sent = {"data": {"question": "q"}, "files": {"image": buffer.getvalue()}}
        body: dict[str, Any] = (await client.post("/v1/answer", **sent)).json()
        return body

    async def tell(client: Any, answer: dict[str, Any], correct: bool) -> None:
        said = {"id": answer["id"], "correct": correct}
        assert (await client.post("/v1/outcomes", json=said)).status_code == 200

    settings = {"records_url": url, "audit_rate": 1.0, "bundle": current}
    async with serve(first, **settings) as client:
        gate = client._transport.app.state.gate
        number = 0
        while not gate.rules.void:
            told = await ask(client, number := number + 1)
            await tell(client, told, correct=False)
            gate.record_keeping.promise.read()
        wrong = number
        for number in range(100, 230):
            told = await ask(client, number)
            assert told["reason"] in {"certificate_void", "risk_above_reject"}
            await tell(client, told, correct=True)
        for name in [name for name in os.environ if name.startswith("VLM_GATE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("VLM_GATE_RECORDS_URL", url)
        since = started.strftime("%Y-%m-%dT%H:%M:%S%z")
        command = ["recertify", str(current), "--since", since]
        refused = CliRunner().invoke(
            app, [*command, "--out", str(tmp_path / "looser"), "--alpha", "0.2"]
        )
        assert refused.exit_code == 1
        assert "say --loosen" in refused.stderr
        ended = CliRunner().invoke(
            app, [*command, "--out", str(tmp_path / "again"), "--alpha", "0.2", "--loosen"]
        )
        assert ended.exit_code == 0, ended.output
        assert "not judged)" in ended.stdout
        alias = ["certify", str(current), "--from-records", "--since", since]
        strict = CliRunner().invoke(
            app, [*alias, "--out", str(tmp_path / "strict"), "--alpha", "0.001"]
        )
        assert strict.exit_code == 3
        assert "no certificate: " in strict.stderr
        assert not (tmp_path / "strict").exists()
        current.unlink()
        current.symlink_to(tmp_path / "again")
        reloaded = (await client.post("/v1/bundle:reload")).json()
        after = [await ask(client, number) for number in range(20)]
    again = read_bundle(tmp_path / "again")
    certificate = again.certificates["never"]
    assert again.id == first.id
    assert wrong >= 2
    assert certificate.k <= wrong
    assert (certificate.delta, certificate.level) == (0.05, pytest.approx(0.04))
    assert (again.alpha, again.loosened_from) == (0.2, 0.05)
    assert reloaded["loosened_from"] == 0.05
    assert reloaded["certificates"]["never"]["id"] == certificate.id
    assert reloaded["certificates"]["auto"] == {"missing": "no_certificate"}
    assert "audit" in {told["reason"] for told in after}  # accepted, and drawn at rate 1
    assert {told["reason"] for told in after} <= {"audit", "risk_above_threshold"}
    async with serve(again, **settings) as client:
        assert (await ask(client, 7))["certificate"]["id"] == certificate.id
    async with serve(first, **settings) as client:  # the old one stays void for good
        assert (await ask(client, 7))["reason"] == "certificate_void"


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    for words in (["certify", "x", "--from-records"], ["recertify", "x"]):
        told = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
        assert told.exit_code == 2
        assert "--since" in told.stderr


def test_certifying_the_same_data_again_lifts_no_void(store, bundled, record) -> None:
    def promise(data: str, created: datetime) -> Promise:
        found = certify(
            np.full(200, 0.2), np.zeros(200, dtype=bool), np.arange(200),
            Ladder(np.array([0.5]), np.array([0.9]), 1),
            alpha=0.05, delta=0.05, self_consistency="never", samples=0, bundle="b-test",
            model="fake", data=data, created=created, valid_days=30,
        )  # fmt: skip
        assert isinstance(found, Certificate)
        attempt = CertificateAttempt(0.05, "never", found)
        made = Promise(store, replace(bundled(), attempts=(attempt,)))
        made.read()
        return made

    first = promise("run-1", START)
    assert not first.void
    for number in range(9):
        audit = record(
            bundle="b-test", certificate=min(first._certificates), image_sha256=f"{number:064x}",
            reason="audit", audit=True, audit_probability=0.1, audit_reference=0.1,
        )  # fmt: skip
        store.append_answers([audit])
        store.add_outcome(Outcome(audit.id, audit.created, correct=False))
    assert promise("run-1", START).void
    assert promise("run-1", START + timedelta(days=30)).void  # a later expiry, the same claim
    assert not promise("run-2", START).void
