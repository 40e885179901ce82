"""A candidate is scored beside: it changes no answer, and its decisions are counted and kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from probes.errors import BundleError
from probes.model.bundle import Bundle, Golden
from probes.model.folder import write_bundle
from probes.types import GenerationSettings
from service.app import create_app
from service.gate.rules import load_rules
from service.settings import Settings

pytestmark = pytest.mark.anyio
QUESTIONS = [f"Is plate {number} whole?" for number in range(24)]


async def ask(client: httpx.AsyncClient, png: bytes, question: str, **more: str) -> dict[str, Any]:
    data = {"question": question, **more}
    reply = await client.post("/v1/answer", data=data, files={"image": png})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def elsewhere(bundle: Bundle, engine: Any) -> Bundle:
    """The bundle with a probe on another layer and position, and other attention layers."""
    wide = engine.identity.hidden_size
    probe = replace(
        bundle.probe,
        layer=3,
        position="prompt_last",
        weights=np.linspace(-1, 1, wide).astype(np.float32),
    )
    place = (probe.layer, probe.position)
    golden = tuple(
        Golden(g.query, g.answer, {place: engine.state(g.query, *place) @ probe.projection})
        for g in bundle.golden
    )
    return replace(bundle, probe=probe, golden=golden, attention_layers=(2, 4), data="newer")


def counted(text: str) -> dict[tuple[str, str], float]:
    found = re.findall(
        r'vlm_gate_shadow_decisions_total\{active="(\w+)",candidate="(\w+)"\} (\S+)', text
    )
    return {(active, candidate): float(count) for active, candidate, count in found}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "candidate.toml"
    file.write_text('policy = "manual"\naccept_below = 0.2\nreject_above = 0.7\n')
    return file


async def test_a_candidate_policy_is_counted_and_kept(serve, bundled, png, policy, tmp_path):
    url = f"sqlite:///{tmp_path / 'records.db'}"
    async with serve(bundled(threshold=0.5), shadow_policy=policy, records_url=url) as client:
        told = [await ask(client, png, question) for question in QUESTIONS]
        in_force = (await client.get("/v1/policy")).json()
        kept = [(await client.get(f"/v1/answers/{body['id']}")).json() for body in told]
        text = (await client.get("/metrics")).text
    assert in_force["accept_below"] == 0.5
    assert in_force["candidate"] == {
        "bundle": "b-test", "policy": "manual", "accept_below": 0.2, "reject_above": 0.7
    }  # fmt: skip
    expected: dict[tuple[str, str], float] = {}
    for body, record in zip(told, kept, strict=True):
        risk = body["risk"]["score"]
        wanted = "accept" if risk <= 0.2 else "reject" if risk > 0.7 else "escalate"
        assert record["candidate"]["decision"] == wanted
        assert record["candidate"]["risk"] == risk
        assert record["decision"] == body["decision"]
        pair = (body["decision"], wanted)
        expected[pair] = expected.get(pair, 0) + 1
    assert counted(text) == expected
    assert len(expected) >= 3  # the two differ


async def test_a_candidate_bundle_is_read_in_the_same_pass_and_changes_nothing(
    serve, bundled, engine, png, tmp_path, monkeypatch
):
    active, other = bundled(), elsewhere(bundled(), engine)
    bare = write_bundle(replace(other, attempts=(), alpha=None), tmp_path / "candidate")
    reads = []
    generate = engine.generate

    async def noting(query, readout):
        reads.append(query.question)
        return await generate(query, readout)

    async with serve(active) as client:
        alone = [await ask(client, png, question) for question in QUESTIONS]
    async with serve(other) as client:
        theirs = [await ask(client, png, question) for question in QUESTIONS]
    url = f"sqlite:///{tmp_path / 'records.db'}"
    beside = {"shadow_bundle": tmp_path / "candidate", "records_url": url}
    async with serve(active, **beside) as client:
        assert (await client.get("/readyz")).status_code == 200
        monkeypatch.setattr(engine, "generate", noting)
        both = [await ask(client, png, question) for question in QUESTIONS]
        kept = [(await client.get(f"/v1/answers/{body['id']}")).json() for body in both]
    assert reads == QUESTIONS
    for one, two, served, record in zip(alone, both, theirs, kept, strict=True):
        for name in ("answer", "decision", "reason", "certificate", "bundle"):
            assert one[name] == two[name]
        assert two["risk"]["score"] == pytest.approx(one["risk"]["score"], abs=1e-9)
        assert two["signals"]["attention"] == one["signals"]["attention"]
        candidate = record["candidate"]
        assert candidate["bundle"] == bare.id
        assert candidate["risk"] == pytest.approx(served["risk"]["score"], abs=1e-9)
        assert (candidate["decision"], candidate["reason"]) == ("escalate", "no_certificate")


async def test_what_hangs_on_samples_that_were_not_drawn_is_unknown(serve, bundled, png, tmp_path):
    file = tmp_path / "candidate.toml"
    file.write_text('policy = "manual"\naccept_below = 0.05\n')
    # In force, stage one accepts and samples nothing; the candidate would have gone on to sample.
    async with serve(bundled(threshold=0.94), shadow_policy=file) as client:
        told = [await ask(client, png, q, self_consistency="auto") for q in QUESTIONS]
        text = (await client.get("/metrics")).text
    assert {body["decision"] for body in told} >= {"accept"}
    unknown = counted(text)[("accept", "unknown")]
    middle = [b for b in told if b["decision"] == "accept" and b["risk"]["score"] > 0.05]
    assert unknown == len([b for b in middle if "missing" in b["signals"]["self_consistency"]])


async def test_the_same_samples_serve_both(serve, bundled, png, policy):
    async with serve(bundled(threshold=0.5), shadow_policy=policy) as client:
        told = [await ask(client, png, q, self_consistency="always") for q in QUESTIONS]
        text = (await client.get("/metrics")).text
    assert sum(counted(text).values()) == len(told)
    known = {pair: count for pair, count in counted(text).items() if pair[1] != "unknown"}
    assert known


async def test_a_candidate_that_fails_costs_no_answer(serve, bundled, png, policy, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.gate.candidate.judge", broken)
    async with serve(bundled(), shadow_policy=policy) as client:
        body = await ask(client, png, "q")
        text = (await client.get("/metrics")).text
    assert counted(text) == {(body["decision"], "unknown"): 1.0}


async def test_a_candidate_that_reads_something_else_is_never_ready(
    serve, bundled, engine, png, tmp_path
):
    other = elsewhere(bundled(), engine)
    place = (other.probe.layer, other.probe.position)
    moved = tuple(replace(g, readouts={place: g.readouts[place] + 1}) for g in other.golden)
    write_bundle(replace(other, golden=moved, attempts=(), alpha=None), tmp_path / "candidate")
    async with serve(bundled(), shadow_bundle=tmp_path / "candidate") as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "layer 3, prompt_last" in ready.json()["detail"]


def test_a_candidate_that_cannot_be_compared_is_refused(bundled, engine, tmp_path):
    other = replace(bundled(), generation=GenerationSettings(max_tokens=8), attempts=(), alpha=None)
    write_bundle(other, tmp_path / "candidate")
    for folder, said in ((tmp_path / "candidate", "generation"), (tmp_path, "SHA256SUMS")):
        made = Settings(engine="fake", records_url="", shadow_bundle=folder)
        with pytest.raises(BundleError, match=said):
            load_rules(made, bundled())
        with pytest.raises(BundleError, match=said):
            create_app(made, engine, bundled())
