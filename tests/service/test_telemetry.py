"""Metrics: the names that the design promises, fed by what happened."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from service import __version__

pytestmark = pytest.mark.anyio

NAMES = (
    "requests_total", "decisions_total", "risk_score", "attention_top30_mass",
    "attention_spatial_entropy", "self_consistency_agreement", "self_consistency_runs_total",
    "signal_failures_total", "stage_duration_seconds", "queue_depth", "inflight_requests",
    "rejected_requests_total", "threshold", "certificate_valid",
    "certificate_expiry_timestamp_seconds", "out_of_domain_total", "build_info",
)  # fmt: skip


async def test_every_promised_name_is_there(serve):
    async with serve() as client:
        reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    for name in NAMES:
        assert f"# TYPE vlm_gate_{name} " in reply.text


async def test_one_answer_counts_once(serve, bundled, png):
    async with serve(bundled(limit=0.0)) as client:
        asked = {"question": "Is the secret valve open?", "self_consistency": "always"}
        await client.post("/answer", data=asked, files={"image": png})
        text = (await client.get("/metrics")).text
    for line in (
        'vlm_gate_requests_total{code="200",route="/answer"} 1.0',
        'vlm_gate_decisions_total{decision="escalate",mode="enforce",reason="out_of_domain"} 1.0',
        "vlm_gate_risk_score_count 1.0",
        'vlm_gate_risk_score_bucket{le="0.95"} 1.0',
        "vlm_gate_attention_top30_mass_count 1.0",
        "vlm_gate_attention_spatial_entropy_count 1.0",
        "vlm_gate_self_consistency_agreement_count 1.0",
        "vlm_gate_out_of_domain_total 1.0",
        'vlm_gate_threshold{kind="accept_below"} 0.5',
        "vlm_gate_certificate_valid 1.0",
        'model="fake"',
    ):
        assert line in text
    for stage in ("decode", "queue", "generate", "measure", "sample", "total"):
        assert f'vlm_gate_stage_duration_seconds_count{{stage="{stage}"}} 1.0' in text
    assert "secret" not in text


async def test_the_openapi_document_has_both_bodies_and_the_problems(serve):
    async with serve() as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
    answer = document["paths"]["/v1/answer"]["post"]
    assert answer["requestBody"]["content"].keys() == {"application/json", "multipart/form-data"}
    assert answer["responses"].keys() >= {"200", "400", "413", "415", "422", "503", "504"}
    assert answer["responses"]["413"]["content"].keys() == {"application/problem+json"}
    assert page.status_code == 200


async def test_policy_in_force(serve):
    async with serve() as client:
        told = (await client.get("/v1/policy")).json()
    assert (told["policy"], told["mode"], told["self_consistency"]) == (
        "certified", "enforce", "never",
    )  # fmt: skip
    assert (told["accept_below"], told["reject_above"]) == (0.5, 0.95)
    assert told["certificates"]["never"]["id"] == "c-never"
    assert told["model"] == {"name": "fake", "revision": "fake"}


def test_the_version_is_the_packages():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == __version__
