"""Outcomes, replay, recertification and export judge every case of the table alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from probes.labels.abstention import abstains
from probes.labels.rule import parse_rule
from probes.model.policy import Policy
from service.gate.rules import Rules
from service.offline.export import export_parquet
from service.offline.recertify import gather
from service.offline.replay import replay
from service.records.audits import AuditTrail
from service.records.outcome import Outcome
from service.records.store import RecordStore
from service.records.words import judge
from tests.label_cases import CASES, Case

pytestmark = pytest.mark.anyio
START = datetime(2026, 3, 1, tzinfo=UTC)
SIGNALS = {
    "hidden_state_probe": {"logit": -1.5, "layers": [2]},
    "token_confidence": {"mean_logprob": -0.2, "first_token_entropy": 0.4, "margin": 1.0},
    "domain": {"distance": 0.1, "inside": True},
}
TOLD = [case for case in CASES if case.reference is not None and case.rule_name != "vqa"]


@pytest.fixture
def told(tmp_path: Path, open_store, record) -> Iterator[tuple[RecordStore, dict[str, Case]]]:
    """A store with an audited answer of each case and its reference as outcome."""
    store = open_store(f"sqlite:///{tmp_path / 'records.db'}")
    cases: dict[str, Case] = {}
    records = []
    for count, case in enumerate(TOLD):
        made = record(
            answer=case.answer,
            created=START + timedelta(minutes=count),
            bundle="b-test",
            certificate="c-never",
            self_consistency="never",
            reason="audit",
            audit=True,
            audit_probability=0.1,
            risk=0.2,
            stage=1,
            accept_below=0.5,
            image_sha256=f"{count:064x}",
            signals=SIGNALS,
        )
        records.append(made)
        cases[made.id] = case
    store.append_answers(records)
    for name, case in cases.items():
        rule = parse_rule(case.rule).text
        store.add_outcome(Outcome(name, START, reference=case.reference, rule=rule))
    return store, cases


def test_audits_replay_recertification_and_export_judge_alike(
    told, bundled, tmp_path: Path
) -> None:
    store, cases = told
    wrong = {name: not case.right for name, case in cases.items()}
    audits = AuditTrail(store, "b-test", ["c-never"]).read()
    assert {one.record.id: one.wrong for one in audits} == wrong

    bundle = bundled(threshold=0.5)
    found = replay(store, Rules(bundle, Policy("manual", 1.0, None)), bundle)
    assert (found.both.judged, found.both.wrong) == (len(cases), sum(wrong.values()))

    lenient = replace(bundle.attempts[0], outcome=replace(bundle.certificates["never"], alpha=0.99))
    bundle = replace(bundle, attempts=(lenient,))  # else these audits void it, and say no more
    gathered = gather(store, bundle, START, START + timedelta(days=9))
    groups = {str(n) for n, one in zip(gathered.groups, gathered.wrong, strict=True) if one}
    assert groups == {f"{n:064x}" for n, one in enumerate(wrong.values()) if one}

    export_parquet(store, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["id"]: (row["outcome_rule"], row["outcome_wrong"]) for row in rows} == {
        name: (parse_rule(case.rule).text, wrong[name]) for name, case in cases.items()
    }


async def test_outcomes_over_http(tmp_path: Path, told, serve) -> None:
    store, cases = told
    async with serve(records_url=str(store.engine.url)) as client:
        for name, case in cases.items():
            body = {"id": name, "reference": case.reference, "rule": case.rule, "reviewer": "ann"}
            reply = await client.post("/v1/outcomes", json=body)
            if case.rule_name == "match" and abstains(case.reference or ""):
                assert (reply.status_code, reply.json()["field"]) == (422, "reference")
                continue
            assert reply.status_code == 200, (case, reply.json())
            outcome = next(one for one in store.outcomes_of([name]) if one.reviewer == "ann")
            answer = store.get(name)
            assert answer is not None
            assert judge(answer.answer, outcome) is not case.right, case


def test_a_reference_of_a_version_that_kept_no_rule_is_judged_as_its_documents_said() -> None:
    def wrong(answer: str, reference: str) -> Any:
        return judge(answer, Outcome("01A", START, reference=reference))

    assert wrong("Yes, there is", "Yes.") is False
    assert wrong("There is not a dog", "no") is False
    assert wrong("No parking", "No stopping") is True
    assert wrong("No. 5", "No. 7") is True
    assert wrong("...", "...") is True


async def test_the_rule_is_kept_and_shown(tmp_path: Path, serve, png) -> None:
    async with serve(records_url=f"sqlite:///{tmp_path / 'records.db'}") as client:
        reply = await client.post("/v1/answer", data={"question": "?"}, files={"image": png})
        name = reply.json()["id"]
        bodies: list[dict[str, Any]] = [
            {"reference": "yes"},
            {"reference": "yes", "rule": "yes_no"},
            {"reference": "yes", "rule": "yes_no"},
            {"reference": "3", "rule": {"rule": "number", "tolerance": 0.5}},
            {"reference": "two", "aliases": {"two": ["a pair"]}},
            {"correct": True},
        ]
        said = []
        for body in bodies:
            told = await client.post("/v1/outcomes", json={"id": name, **body})
            said.append(told.json()["status"])
        outcomes = (await client.get(f"/v1/answers/{name}")).json()["outcomes"]
    assert said == ["added", "added", "unchanged", "added", "added", "added"]
    assert [one["rule"] for one in outcomes] == [
        "match",
        "yes_no",
        '{"rule": "number", "tolerance": 0.5}',
        '{"rule": "match", "aliases": {"two": ["a pair"]}}',
        None,
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reference": "yes", "rule": "equal"}, "rule"),
        ({"reference": "yes", "rule": "ignore"}, "rule"),
        ({"reference": "yes", "rule": 3}, "rule"),
        ({"reference": "red", "rule": "number"}, "reference"),
        ({"reference": "red", "rule": "vqa"}, "reference"),
        ({"reference": "(", "rule": "regex"}, "reference"),
        ({"reference": "unknown"}, "reference"),
        ({"reference": "3", "rule": {"rule": "number", "tolerance": -1}}, "tolerance"),
        ({"reference": "red", "rule": "choice"}, "options"),
        ({"reference": "two", "aliases": {"two": 2}}, "aliases.two"),
        ({"correct": True, "rule": "match"}, "rule"),
        ({"correct": True, "aliases": {}}, "rule"),
    ],
)
async def test_a_rule_that_cannot_judge_is_a_422(tmp_path: Path, serve, body, field) -> None:
    async with serve(records_url=f"sqlite:///{tmp_path / 'records.db'}") as client:
        reply = await client.post("/v1/outcomes", json={"id": "01A", **body})
    problem = reply.json()
    assert (reply.status_code, problem["field"]) == (422, field), problem
