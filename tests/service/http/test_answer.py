"""POST /answer on the real application: every field, both forms, the decisions, the failures."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import httpx
import pytest

from probes.model.certificate import NoCertificate
from probes.model.policy import Policy
from probes.model.slicing import Slicing
from probes.types import Missing
from service.engines.base import EngineError, QueryRefused

pytestmark = pytest.mark.anyio


def body(png: bytes, **options: Any) -> dict[str, Any]:
    image = "data:image/png;base64," + base64.b64encode(png).decode()
    return {"question": "Is there a scratch?", "image": image, **options}


async def admitted(client: httpx.AsyncClient, count: int) -> None:
    """Let the others run until so many requests are in the queue or beyond it."""
    admission = client._transport.app.state.gate.admission  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while admission.inflight + admission.waiting < count:
            await asyncio.get_running_loop().run_in_executor(None, int)


async def metrics(client: httpx.AsyncClient) -> str:
    return (await client.get("/metrics")).text


async def test_every_field_of_the_response(serve, png):
    async with serve() as client:
        reply = await client.post("/v1/answer", json=body(png, self_consistency="always"))
    assert reply.status_code == 200
    told = reply.json()
    assert set(told) == {
        "id", "answer", "decision", "reason", "risk", "signals", "certificate", "model",
        "bundle", "mode", "timing",
    }  # fmt: skip
    assert len(told["id"]) == 26
    assert told["id"] == reply.headers["x-request-id"]
    assert told["answer"] == "yes"
    assert told["risk"].keys() == {"score", "status", "accept_below", "reject_above"}
    assert told["risk"]["status"] == "ok"
    assert (told["risk"]["accept_below"], told["risk"]["reject_above"]) == (0.5, 0.95)
    signals = told["signals"]
    assert signals["hidden_state_probe"].keys() == {"logit", "layers"}
    assert signals["hidden_state_probe"]["layers"] == [2]
    assert signals["token_confidence"].keys() == {"mean_logprob", "first_token_entropy", "margin"}
    assert signals["self_consistency"].keys() == {"agreement", "samples", "stopped_early"}
    assert signals["attention"].keys() == {
        "spatial_entropy", "top30_mass", "image_mass", "clusters", "role",
    }  # fmt: skip
    assert signals["attention"]["role"] == "comparison_only"
    assert signals["evidence"] == {"missing": "not_requested"}
    assert signals["domain"].keys() == {"distance", "inside", "part", "images", "question"}
    domain = signals["domain"]
    assert domain["images"] == [{"distance": domain["distance"], "inside": domain["inside"]}]
    assert domain["question"] == {"missing": "no_question_side"}
    assert signals["answer_form"] == {"degenerate": None}
    certificate = told["certificate"]
    assert certificate.keys() == {
        "id", "valid", "alpha", "delta", "n", "expires", "scope", "test", "unit", "estimand",
        "most_per_group", "groups", "level", "old_kind",
    }  # fmt: skip
    assert (certificate["scope"], certificate["test"]) == ("all", "binomial")
    assert certificate["estimand"] == "random_question_of_random_image"
    assert (certificate["id"], certificate["valid"], certificate["n"]) == ("c-always", True, 812)
    assert told["model"] == {"name": "fake", "revision": "fake"}
    assert (told["bundle"], told["mode"]) == ("b-test", "enforce")
    assert 0 <= told["timing"]["queue_seconds"] <= told["timing"]["total_seconds"]


async def test_json_multipart_and_the_alias_agree(serve, png):
    async with serve() as client:
        question = {"question": "Is there a scratch?", "metadata": '{"line": "3"}', "samples": "10"}
        replies = [
            await client.post("/v1/answer", json=body(png, metadata={"line": "3"}, samples=10)),
            await client.post("/answer", json=body(png)),
            await client.post("/v1/answer", data=question, files={"image": ("plate.png", png)}),
            await client.post("/answer", data=question, files={"image": png}),
        ]
    told = [{**reply.json(), "id": "", "timing": ""} for reply in replies]
    assert told[0]["risk"]["score"] is not None
    assert told == [told[0]] * 4


async def test_the_same_request_twice_and_among_others_has_the_same_risk(serve, png):
    async with serve() as client:
        asked = body(png, self_consistency="always")
        others = [body(png, question=f"How many screws? {n}") for n in range(15)]
        alone = await client.post("/answer", json=asked)
        within = await asyncio.gather(*(client.post("/answer", json=b) for b in [asked, *others]))
    assert all(reply.status_code == 200 for reply in within)
    assert alone.json()["risk"] == within[0].json()["risk"]
    assert alone.json()["signals"] == within[0].json()["signals"]


async def test_risk_decides(serve, bundled, png):
    for bundle, decision, reason in (
        (bundled(threshold=1.0, policy=Policy()), "accept", "risk_below_threshold"),
        (bundled(threshold=0.0, policy=Policy()), "escalate", "risk_above_threshold"),
        (bundled(policy=Policy(reject_above=0.0)), "reject", "risk_above_reject"),
        (bundled(limit=0.0), "escalate", "out_of_domain"),
        (bundled(days=-1), "escalate", "certificate_void"),
        (bundled(policy=Policy(mode="manual")), "escalate", "risk_above_threshold"),
        (bundled(policy=Policy(required=("evidence",))), "escalate", "signal_unavailable"),
    ):
        async with serve(bundle) as client:
            told = (await client.post("/answer", json=body(png))).json()
        assert (told["decision"], told["reason"]) == (decision, reason)


async def test_no_certificate_is_said(serve, bundled, png):
    async with serve(bundled(days=-1)) as client:
        told = (await client.post("/answer", json=body(png))).json()
        policy = (await client.get("/v1/policy")).json()
        counted = await metrics(client)
    assert told["certificate"] == {"missing": "certificate_void"}
    assert told["risk"]["accept_below"] is None
    assert policy["certificates"]["auto"] == {"missing": "certificate_void"}
    assert "vlm_gate_certificate_valid 0.0" in counted


async def test_another_number_of_samples_is_not_certified(serve, png):
    async with serve() as client:
        asked = body(png, self_consistency="always", samples=7)
        told = (await client.post("/answer", json=asked)).json()
    assert told["reason"] == "no_certificate"
    assert told["certificate"] == {"missing": "no_certificate"}


async def test_an_empty_answer_has_no_risk_and_escalates(serve, engine, png):
    async with serve() as client:
        engine._answer_for = lambda query: ""
        told = (await client.post("/answer", json=body(png))).json()
        counted = await metrics(client)
    assert told["risk"]["score"] is None
    assert told["risk"]["status"] == "empty_answer"
    assert told["reason"] == "degenerate_answer"
    assert told["signals"]["answer_form"] == {"degenerate": "empty"}
    failure = 'vlm_gate_signal_failures_total{reason="empty_answer",signal="token_confidence"} 1.0'
    assert failure in counted


async def test_auto_samples_only_in_the_middle_band(serve, bundled, png):
    for threshold, sampled in ((1.0, False), (1e-9, True)):
        bundle = bundled(threshold=threshold, policy=Policy())
        async with serve(bundle) as client:
            reply = await client.post("/answer", json=body(png, self_consistency="auto"))
        assert ("agreement" in reply.json()["signals"]["self_consistency"]) is sampled


async def test_sampling_stops_early_when_settled(serve, bundled, png):
    async with serve(bundled(threshold=1.0, policy=Policy())) as client:
        reply = await client.post("/answer", json=body(png, self_consistency="always"))
        counted = await metrics(client)
    told = reply.json()["signals"]["self_consistency"]
    assert (told["samples"], told["stopped_early"]) == (5, True)
    assert 'vlm_gate_self_consistency_runs_total{outcome="stopped_early"} 1.0' in counted


async def test_failed_sampling_escalates(serve, engine, png, monkeypatch):
    async def fail(*args: object, **options: object) -> tuple[str, ...]:
        raise EngineError("out of memory")

    monkeypatch.setattr(engine, "sample", fail)
    async with serve() as client:
        reply = await client.post("/answer", json=body(png, self_consistency="always"))
        counted = await metrics(client)
    told = reply.json()
    assert told["signals"]["self_consistency"] == {"missing": "engine_error"}
    assert (told["decision"], told["reason"]) == ("escalate", "signal_unavailable")
    assert told["risk"]["score"] is None
    assert 'vlm_gate_self_consistency_runs_total{outcome="failed"} 1.0' in counted


async def test_evidence_when_asked_for(serve, png):
    async with serve() as client:
        told = (await client.post("/answer", json=body(png, evidence=True))).json()
        counted = await metrics(client)
    evidence = told["signals"]["evidence"]
    assert evidence.keys() == {
        "logprob_drop_blank", "flipped_blank", "logprob_drop_top30", "flipped_top30",
        "logprob_drop_random30", "flipped_random30",
    }  # fmt: skip
    # The fake engine says yes to every image, with another log-probability for each.
    assert not any(evidence[name] for name in evidence if name.startswith("flipped"))
    drops = {evidence[f"logprob_drop_{masking}"] for masking in ("blank", "top30", "random30")}
    assert len(drops) >= 2
    assert 'vlm_gate_stage_duration_seconds_count{stage="evidence"} 1.0' in counted


async def test_evidence_is_not_measured_unasked(serve, png, engine, monkeypatch):
    async def never(*args, **options):
        raise AssertionError("scored")

    monkeypatch.setattr(engine, "score", never)
    async with serve() as client:
        told = (await client.post("/answer", json=body(png))).json()
        counted = await metrics(client)
    assert told["signals"]["evidence"] == {"missing": "not_requested"}
    assert 'stage="evidence"' not in counted


@pytest.mark.parametrize(
    ("method", "fails", "reason"),
    [
        ("score", EngineError("gone"), "engine_error"),
        ("patch_boxes", None, "unknown_image_geometry"),
    ],
)
async def test_why_there_is_no_evidence(serve, png, engine, monkeypatch, method, fails, reason):
    async def fail(*args, **options):
        raise fails

    def unknown(*args):
        return Missing(reason)

    monkeypatch.setattr(engine, method, fail if fails else unknown)
    async with serve() as client:
        told = (await client.post("/answer", json=body(png, evidence=True))).json()
        without = (await client.post("/answer", json=body(png))).json()
    assert told["signals"]["evidence"] == {"missing": reason}
    assert told["decision"] == without["decision"]


async def test_shadow_marks_and_changes_nothing_else(serve, png):
    async with serve(mode="shadow") as client:
        shadow = (await client.post("/answer", json=body(png))).json()
    async with serve() as client:
        enforced = (await client.post("/answer", json=body(png))).json()
    assert (shadow["mode"], enforced["mode"]) == ("shadow", "enforce")
    assert shadow["decision"] == enforced["decision"]


async def test_an_engine_that_fails_is_a_503_and_counted(serve, engine, png):
    async with serve() as client:
        engine.failure = EngineError("CUDA error: secret")
        reply = await client.post("/answer", json=body(png))
        engine.failure = None
        after = await client.post("/answer", json=body(png))
        counted = await metrics(client)
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["retry-after"]) >= 1
    assert "secret" not in reply.text
    assert after.status_code == 200
    assert 'vlm_gate_rejected_requests_total{reason="engine_error"} 1.0' in counted


async def test_a_query_that_the_model_cannot_take_is_a_422(serve, engine, png):
    async with serve() as client:
        engine.failure = QueryRefused("question: longer than the model's context; shorten it")
        reply = await client.post("/answer", json=body(png))
    assert reply.status_code == 422
    assert reply.json()["field"] == "question"


async def test_a_bug_is_a_500_without_a_trace(serve, engine, png, monkeypatch):
    async def fail(*args: object) -> None:
        raise RuntimeError("secret detail")

    async with serve() as client:
        monkeypatch.setattr(engine, "generate", fail)
        reply = await client.post("/answer", json=body(png))
        counted = await metrics(client)
    assert reply.status_code == 500
    assert reply.json()["type"] == "urn:vlm-gate:problem:internal_error"
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text
    assert 'vlm_gate_requests_total{code="500",route="/answer"} 1.0' in counted


async def test_the_deadline_is_a_504(serve, engine, png):
    async with serve(deadline_seconds=0.05) as client:
        engine.hold()
        reply = await client.post("/answer", json=body(png))
        engine.release()
    assert reply.status_code == 504
    assert "max_tokens" in reply.json()["detail"]


async def test_a_full_queue_is_a_503_with_retry_after(serve, engine, png):
    async with serve(max_inflight=1, max_queue=1) as client:
        engine.hold()
        held = [asyncio.create_task(client.post("/answer", json=body(png))) for _ in range(2)]
        await admitted(client, 2)
        assert "vlm_gate_queue_depth 1.0" in await metrics(client)
        assert "vlm_gate_inflight_requests 1.0" in await metrics(client)
        refused = await client.post("/answer", json=body(png))
        engine.release()
        answered = await asyncio.gather(*held)
    assert refused.status_code == 503
    assert refused.json()["title"] == "Overloaded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert [reply.status_code for reply in answered] == [200, 200]


async def test_the_slice_named_in_the_metadata_decides_by_its_own_certificate(serve, bundled, png):
    """Camera A is certified up to risk 1, camera B failed its test, all together up to 0."""
    bundle = bundled(threshold=0.0, policy=Policy())
    (pooled,) = (one for one in bundle.attempts if one.self_consistency == "never")
    own = replace(pooled.outcome, id="c-a", threshold=1.0, slices=("A",))
    failed = NoCertificate("error_rate_too_high", 80)
    bundle = replace(
        bundle,
        slicing=Slicing("slice", "camera"),
        attempts=(
            *bundle.attempts,
            replace(pooled, outcome=own, slices=("A",)),
            replace(pooled, outcome=failed, slices=("B",)),
        ),
    )
    async with serve(bundle) as client:
        for metadata, decision, reason, certificate in (
            ({"camera": "A"}, "accept", "risk_below_threshold", {"id": "c-a"}),
            ({"camera": "B"}, "escalate", "no_certificate", {"missing": "no_certificate"}),
            ({"camera": "C"}, "escalate", "no_certificate", {"missing": "no_certificate"}),
            ({"line": "A"}, "escalate", "risk_above_threshold", {"id": "c-never"}),
        ):
            asked = body(png, self_consistency="never", metadata=metadata)
            told = (await client.post("/answer", json=asked)).json()
            assert (told["decision"], told["reason"]) == (decision, reason)
            assert certificate.items() <= told["certificate"].items()
