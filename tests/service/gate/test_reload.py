"""Other rules while serving: nothing fails, each answer names what judged it, and bad ones are
refused while the old ones go on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from probes.model.bundle import Bundle
from probes.model.policy import Policy
from probes.monitor.drift import RiskHistogram

pytestmark = pytest.mark.anyio
ASKERS = 12
REQUIRED = Policy().required
DOCUMENT = Path(__file__).parents[3] / "docs" / "reload.md"


@pytest.fixture
def folders(bundled, saved, tmp_path) -> tuple[Bundle, Bundle]:
    """Two bundles on disk, and ``current`` that names the first."""
    first = saved(bundled(threshold=0.4), tmp_path / "first")
    second = saved(replace(bundled(threshold=0.6), data="newer"), tmp_path / "second")
    point(tmp_path, "first")
    point(tmp_path, "first")
    return first, second


def point(folder: Path, name: str) -> None:
    """Let ``current`` name another bundle, at once: what a deployment does."""
    (folder / "next").symlink_to(folder / name)
    os.replace(folder / "next", folder / "current")


async def ask(client: httpx.AsyncClient, png: bytes, question: str = "Is it whole?") -> Any:
    sent = {"data": {"question": question}, "files": {"image": png}}
    return await client.post("/v1/answer", **sent)


@pytest.mark.parametrize("records", [False, True])
async def test_reload_under_load_fails_no_request(
    live, folders, engine, png, tmp_path, records
) -> None:
    first, second = folders
    engine._latency_seconds = 0.005
    thresholds = {first.id: 0.4, second.id: 0.6}
    url = f"sqlite:///{tmp_path / 'records.db'}" if records else ""
    answers: list[dict[str, Any]] = []
    done, more = asyncio.Event(), asyncio.Semaphore(0)

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        count = 0
        while not done.is_set():
            count += 1
            reply = await ask(client, png, f"Is plate {number} {count} whole?")
            assert reply.status_code == 200, reply.text
            answers.append(reply.json())
            more.release()

    async def a_few_more() -> None:
        for _ in range(3 * ASKERS):
            await more.acquire()

    with live(first, bundle=tmp_path / "current", records_url=url) as service:
        limits = httpx.Limits(max_connections=ASKERS + 1)
        async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60) as client:
            async with asyncio.TaskGroup() as askers:
                for number in range(ASKERS):
                    askers.create_task(keep_asking(client, number))
                for turn in range(6):
                    await a_few_more()
                    name, wanted = (("second", second), ("first", first))[turn % 2]
                    point(tmp_path, name)
                    told = await client.post("/v1/bundle:reload")
                    assert (told.status_code, told.json()["bundle"]) == (200, wanted.id), told.text
                    point(tmp_path, "nowhere")
                    refused = await client.post("/v1/bundle:reload")
                    assert refused.status_code == 422
                await a_few_more()
                done.set()
            kept = []
            if records:
                listed = await client.get("/v1/answers", params={"limit": 500})
                kept = listed.json()["answers"]
    used = Counter(body["bundle"] for body in answers)
    assert set(used) == {first.id, second.id}
    for body in answers:
        assert body["risk"]["accept_below"] == thresholds[body["bundle"]]
        assert body["certificate"]["valid"]
    told_of = {body["id"]: body["bundle"] for body in answers}
    for record in kept:
        assert record["bundle"] == told_of[record["id"]]
    assert bool(kept) == records
    print(f"{len(answers)} answers, 6 reloads, 6 refusals: {dict(used)}")


async def test_what_began_under_the_old_bundle_ends_under_it(
    serve, folders, engine, png, tmp_path, monkeypatch
) -> None:
    first, second = folders
    generate, entered, go = engine.generate, asyncio.Event(), asyncio.Event()

    async def held(query, readout):
        if query.question == "slow":
            entered.set()
            await go.wait()
        return await generate(query, readout)

    monkeypatch.setattr(engine, "generate", held)
    async with serve(first, bundle=tmp_path / "current") as client:
        slow = asyncio.create_task(ask(client, png, "slow"))
        await entered.wait()
        point(tmp_path, "second")
        reloaded = await client.post("/v1/bundle:reload")
        quick = (await ask(client, png)).json()
        go.set()
        late = (await slow).json()
    assert reloaded.json()["bundle"] == second.id
    assert (quick["bundle"], quick["risk"]["accept_below"]) == (second.id, 0.6)
    assert (late["bundle"], late["risk"]["accept_below"]) == (first.id, 0.4)


async def test_metrics_follow(serve, folders, tmp_path) -> None:
    first, second = folders
    async with serve(first, bundle=tmp_path / "current") as client:
        before = (await client.get("/metrics")).text
        point(tmp_path, "second")
        assert (await client.post("/v1/bundle:reload")).status_code == 200
        after = (await client.get("/metrics")).text
        manual = {"policy": "manual", "accept_below": 0.33, "reject_above": None}
        assert (await client.put("/v1/policy", json=manual)).status_code == 200
        by_hand = (await client.get("/metrics")).text
    for text, bundle, edge in ((before, first, "0.4"), (after, second, "0.6")):
        assert f'vlm_gate_threshold{{kind="accept_below"}} {edge}' in text
        assert f'bundle="{bundle.id}"' in text
        assert f'vlm_gate_risk_score_bucket{{le="{edge}"}}' in text
        assert "vlm_gate_certificate_valid 1.0" in text
        assert "vlm_gate_certificate_expiry_timestamp_seconds 1." in text
    assert 'vlm_gate_threshold{kind="accept_below"} 0.33' in by_hand
    assert 'kind="reject_above"' not in by_hand
    assert 'vlm_gate_risk_score_bucket{le="0.33"}' in by_hand
    assert "vlm_gate_certificate" not in by_hand


def flip(folder: Path, name: str) -> None:
    """One bit of a file, as a bad disk would."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and write the sums anew, as somebody does who edits it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    (folder / "SHA256SUMS").write_text(
        "".join(
            f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n"
            for n in names
            if n != "SHA256SUMS"
        )
    )


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (lambda f: flip(f, "tensors.safetensors"), "tensors.safetensors"),
    "a flipped bit in an image": (lambda f: flip(f, "golden/0.png"), "golden/0.png"),
    "a missing file": (lambda f: (f / "manifest.json").unlink(), "manifest.json"),
    "a stray file": (lambda f: (f / "run.sh").write_text("rm"), "run.sh"),
    "another format": (lambda f: rewrite(f, lambda m: m.update(format=99)), "format"),
    "an edited threshold": (
        lambda f: rewrite(f, lambda m: m["content"]["policy"].update(reject_above=0.1)),
        "id",
    ),
    "an edited certificate": (
        lambda f: rewrite(
            f, lambda m: m["certificates"]["attempts"][0]["certificate"].update(threshold=0.99)
        ),
        "certificate.id",
    ),
    "no manifest at all": (
        lambda f: rewrite(f, lambda m: m["content"].pop("probe")),
        "id",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_corrupted_candidate_is_refused_and_the_old_one_goes_on(
    serve, folders, png, tmp_path, name
) -> None:
    first, _ = folders
    damage, field = BROKEN[name]
    damage(tmp_path / "second")
    async with serve(first, bundle=tmp_path / "current") as client:
        point(tmp_path, "second")
        refused = await client.post("/v1/bundle:reload")
        answered = await ask(client, png)
        ready = await client.get("/readyz")
    body = refused.json()
    assert refused.status_code == 422, body
    assert refused.headers["content-type"] == "application/problem+json"
    assert body["type"] == "urn:vlm-gate:problem:bundle_refused"
    assert body["field"] == field
    assert "stays" in body["detail"]
    assert (answered.status_code, answered.json()["bundle"]) == (200, first.id)
    assert ready.status_code == 200


async def test_a_candidate_that_reads_something_else_is_refused(
    serve, folders, bundled, saved, png, tmp_path
) -> None:
    first, _ = folders
    made = bundled()
    moved = [
        replace(g, readouts={k: np.asarray(v) + 0.5 for k, v in g.readouts.items()})
        for g in made.golden
    ]
    other = replace(made.model, revision="r9")
    saved(replace(made, golden=tuple(moved)), tmp_path / "moved")
    saved(replace(made, model=other), tmp_path / "other")
    async with serve(first, bundle=tmp_path / "current") as client:
        for name, field in (("moved", "golden"), ("other", "model.revision")):
            point(tmp_path, name)
            refused = await client.post("/v1/bundle:reload")
            assert (refused.status_code, refused.json()["field"]) == (422, field)
            assert (await ask(client, png)).json()["bundle"] == first.id


async def test_an_engine_that_fails_the_test_keeps_the_old_one(
    serve, folders, engine, png, tmp_path
) -> None:
    from service.engines.base import EngineError

    first, _ = folders
    async with serve(first, bundle=tmp_path / "current") as client:
        point(tmp_path, "second")
        engine.failure = EngineError("out of memory")
        refused = await client.post("/v1/bundle:reload")
        engine.failure = None
        assert (await ask(client, png)).json()["bundle"] == first.id
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


async def test_a_manual_policy_says_that_no_certificate_applies(serve, bundled, png) -> None:
    sent = {"policy": "manual", "accept_below": 0.9, "reject_above": 0.95}
    async with serve(bundled(threshold=0.01)) as client:
        assert (await ask(client, png)).json()["decision"] == "escalate"
        told = (await client.put("/v1/policy", json=sent)).json()
        assert told == (await client.get("/v1/policy")).json()
        answered = (await ask(client, png)).json()
        back = (await client.put("/v1/policy", json={"policy": "certified"})).json()
        again = (await ask(client, png)).json()
    assert (told["policy"], told["accept_below"], told["reject_above"]) == ("manual", 0.9, 0.95)
    none = {"missing": "manual_policy"}
    assert told["certificates"] == {"never": none, "auto": none, "always": none}
    assert (answered["decision"], answered["certificate"]) == ("accept", none)
    assert answered["risk"]["accept_below"] == 0.9
    assert (back["policy"], back["accept_below"]) == ("certified", 0.01)
    assert (again["decision"], again["certificate"]["id"]) == ("escalate", "c-never")


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"policy": "certified", "accept_below": 0.9}, "accept_below"),
        ({"policy": "certified", "reject_above": 0.5}, "reject_above"),
        ({"policy": "certified", "required": ["domain"]}, "required"),
        ({"policy": "certified", "required": [*REQUIRED, "attention"]}, "required"),
        ({"policy": "manual", "reject_above": 0.5}, "accept_below"),
        ({"policy": "manual", "accept_below": 0.5}, "reject_above"),
        ({"policy": "manual", "accept_below": 0.5, "reject_above": 0.4}, "reject_above"),
        ({"policy": "manual", "accept_below": 1.5, "reject_above": None}, "accept_below"),
        ({"policy": "manual", "accept_below": "0.5", "reject_above": None}, "accept_below"),
        ({"policy": "loose"}, "policy"),
        ({}, "policy"),
        ({"policy": "certified", "required": ["charm"]}, "required.0"),
        ({"policy": "certified", "threshold": 0.5}, "threshold"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_by_field(serve, bundled, sent, field) -> None:
    async with serve(bundled()) as client:
        before = (await client.get("/v1/policy")).json()
        refused = await client.put("/v1/policy", json=sent)
        assert (await client.get("/v1/policy")).json() == before
    assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text


async def test_a_certified_policy_may_say_what_serves_small_slices(serve, bundled) -> None:
    sent = {"policy": "certified", "small_slices": "own_or_escalate"}
    async with serve(bundled()) as client:
        before = (await client.get("/v1/policy")).json()
        told = (await client.put("/v1/policy", json=sent)).json()
    assert (before["small_slices"], told["small_slices"]) == ("pooled", "own_or_escalate")


async def test_a_policy_file_is_in_force_from_the_start(serve, folders, png, tmp_path) -> None:
    first, second = folders
    file = tmp_path / "policy.toml"
    file.write_text('policy = "manual"\naccept_below = 0.25\n')
    async with serve(first, bundle=tmp_path / "current", policy=file) as client:
        told = (await client.get("/v1/policy")).json()
        await client.put("/v1/policy", json={"policy": "certified"})
        file.write_text('policy = "manual"\naccept_below = 0.75\n')
        point(tmp_path, "second")
        reloaded = (await client.post("/v1/bundle:reload")).json()
        file.write_text("policy = \n")
        refused = await client.post("/v1/bundle:reload")
        after = (await client.get("/v1/policy")).json()
    assert (told["policy"], told["accept_below"], told["reject_above"]) == ("manual", 0.25, None)
    assert (reloaded["bundle"], reloaded["accept_below"]) == (second.id, 0.75)
    assert (refused.status_code, refused.json()["field"]) == (422, str(file))
    assert after == reloaded


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("policy = ", "is not TOML"),
        ('policy = "certified"\naccept_below = 0.9\n', "accept_below: comes from the certificate"),
        ('policy = "manual"\naccept_below = 2\n', "accept_below: Input should be less"),
        ("", "policy: Field required"),
    ],
)
def test_a_policy_file_that_cannot_be_used_is_named(bundled, tmp_path, text, said) -> None:
    from probes.errors import BundleError
    from service.gate.policy_file import read_policy

    file = tmp_path / "policy.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BundleError, match=said) as caught:
        read_policy(file, bundled())
    assert str(file) in str(caught.value)


async def test_the_documents_policy_is_one(serve, bundled, tmp_path) -> None:
    from service.gate.policy_file import read_policy

    text = DOCUMENT.read_text()
    (toml,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "policy.toml").write_text(toml)
    (sent,) = re.findall(r"-d '(.*?)'", text)
    policy = read_policy(tmp_path / "policy.toml", bundled())
    kind = {"content-type": "application/json"}
    async with serve(bundled()) as client:
        told = (await client.put("/v1/policy", content=sent, headers=kind)).json()
    assert (told["policy"], told["accept_below"], told["reject_above"]) == ("manual", 0.1, 0.6)
    assert (policy.mode, policy.accept_below, policy.reject_above) == ("manual", 0.1, 0.6)


async def test_a_failed_self_test_is_mended_by_a_reload(serve, folders, png, tmp_path) -> None:
    first, second = folders
    broken = replace(
        first,
        golden=tuple(
            replace(g, readouts={k: np.asarray(v) + 1 for k, v in g.readouts.items()})
            for g in first.golden
        ),
    )
    point(tmp_path, "second")
    async with serve(broken, bundle=tmp_path / "current") as client:
        assert (await ask(client, png)).status_code == 503
        assert (await client.post("/v1/bundle:reload")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await ask(client, png)).json()["bundle"] == second.id


async def test_a_void_certificate_stays_void_through_a_manual_policy(
    serve, bundled, png, frame, tmp_path
) -> None:
    reference = RiskHistogram((0.5,), (1000, 1000)).to_dict()
    bundle = replace(bundled(threshold=0.99), training={"risk_reference": reference})
    url = f"sqlite:///{tmp_path / 'records.db'}"
    manual = {"policy": "manual", "accept_below": 0.99, "reject_above": None}
    async with serve(bundle, records_url=url, audit_rate=1.0) as client:
        gate = client._transport.app.state.gate
        promise = gate.rules.promise
        for number in range(20):
            told = (await ask(client, frame(number))).json()
            said = {"id": told["id"], "correct": False}
            assert (await client.post("/v1/outcomes", json=said)).status_code == 200
            promise.read()
            if gate.rules.void:
                break
        assert gate.rules.void
        assert (await client.put("/v1/policy", json=manual)).status_code == 200
        by_hand = (await ask(client, png)).json()
        text = (await client.get("/metrics")).text
        assert gate.rules.promise is not promise
        assert gate.rules.promise.drift is promise.drift  # the same bundle's risks
        assert gate.record_keeping.promise is gate.rules.promise
        back = (await client.put("/v1/policy", json={"policy": "certified"})).json()
        after = (await ask(client, png)).json()
    assert (by_hand["reason"], by_hand["certificate"]) == ("audit", {"missing": "manual_policy"})
    assert "vlm_gate_audits_judged 0.0" in text  # audits of the manual policy, none judged yet
    assert back["accept_below"] is None
    assert after["reason"] == "certificate_void"


async def test_records_that_cannot_be_read_keep_what_is_in_force(
    serve, bundled, tmp_path, monkeypatch
) -> None:
    from service.records.errors import RecordsUnavailable

    def away(*_: object) -> None:
        raise RecordsUnavailable("gone")

    url = f"sqlite:///{tmp_path / 'records.db'}"
    async with serve(bundled(), records_url=url) as client:
        before = (await client.get("/v1/policy")).json()
        monkeypatch.setattr("service.gate.promise.Promise.read", away)
        manual = {"policy": "manual", "accept_below": 0.5, "reject_above": None}
        refused = await client.put("/v1/policy", json=manual)
        assert (await client.get("/v1/policy")).json() == before
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["type"].endswith("records_unavailable")


async def test_a_draining_service_keeps_what_it_has(serve, folders, tmp_path) -> None:
    async with serve(folders[0], bundle=tmp_path / "current") as client:
        client._transport.app.state.gate.admission.draining = True
        for refused in (
            await client.post("/v1/bundle:reload"),
            await client.put("/v1/policy", json={"policy": "certified"}),
        ):
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
