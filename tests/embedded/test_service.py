"""The service on the embedded model: repeatable, batched or not, and honest about its domain."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from probes.model.folder import read_bundle
from service.app import create_app
from service.engines.build import build_engine
from service.settings import Settings, embedded
from testbed.drawing import render
from testbed.photographs import photographs
from testbed.questions import ask
from testbed.scenes import make_scene

# Scenes of no other range: neither trained on, nor collected, nor shown in the demo.
FIRST_SEED = 400_000


def png(image: NDArray[np.uint8]) -> bytes:
    """An image as PNG."""
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "PNG")
    return stored.getvalue()


@asynccontextmanager
async def running() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application with the embedded model, ready."""
    bundle = read_bundle(Path(embedded("bundles", "llava")))
    engine = build_engine(
        "transformers", embedded("models", "llava"), device="cpu", dtype=bundle.model.dtype
    )
    app = create_app(Settings(records_url=""), engine, bundle)
    async with app.router.lifespan_context(app):
        await app.state.gate.tested.wait()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            yield client


def line_image(seed: int) -> tuple[bytes, str]:
    scene = make_scene(seed, "line")
    return png(render(scene)), ask(scene, np.random.default_rng(seed), n=1)[0].text


async def post(client: httpx.AsyncClient, image: bytes, question: str, **more: str) -> Any:
    response = await client.post(
        "/v1/answer", data={"question": question, **more}, files={"image": ("i.png", image)}
    )
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """Everything the tests below ask, from one start of the service."""

    async def gather() -> dict[str, Any]:
        async with running() as client:
            ready = await client.get("/readyz")
            image, question = line_image(FIRST_SEED)
            alone = [await post(client, image, question) for _ in range(2)]
            sampled = [
                await post(client, image, question, self_consistency="always", evidence="true")
                for _ in range(2)
            ]
            as_json = await client.post(
                "/answer",
                json={"question": question, "image": base64.b64encode(image).decode()},
            )
            others = [line_image(seed) for seed in range(FIRST_SEED + 1, FIRST_SEED + 16)]
            crowd = await asyncio.gather(
                *(post(client, *one) for one in [(image, question), *others])
            )
            line = [
                await post(client, *line_image(seed))
                for seed in range(FIRST_SEED + 16, FIRST_SEED + 136)
            ]
            outside = [
                await post(client, png(photograph.image), asked)
                for photograph in photographs()
                for asked, _ in photograph.questions
            ]
            return {
                "ready": ready.status_code,
                "alone": alone,
                "sampled": sampled,
                "json": as_json.json(),
                "crowd": crowd[0],
                "line": line,
                "outside": outside,
            }

    return asyncio.run(gather())


def test_parity_self_test_passes_on_this_machine(told: dict[str, Any]) -> None:
    assert told["ready"] == 200


def test_every_field_of_the_contract_has_a_value(told: dict[str, Any]) -> None:
    body = told["sampled"][0]
    assert set(body) == {
        "id", "answer", "decision", "reason", "risk", "signals", "certificate", "model", "bundle",
        "mode", "timing",
    }  # fmt: skip
    assert body["risk"]["status"] == "ok"
    assert 0 <= body["risk"]["score"] <= 1
    missing = [name for name, signal in body["signals"].items() if "missing" in signal]
    assert missing == []
    evidence = body["signals"]["evidence"]
    assert evidence["logprob_drop_blank"] != evidence["logprob_drop_top30"]
    assert body["signals"]["attention"]["role"] == "comparison_only"
    consistency = body["signals"]["self_consistency"]
    assert consistency["samples"] == (5 if consistency["stopped_early"] else 10)
    assert body["timing"]["generate_seconds"] > 0


def test_the_same_request_twice_gives_the_same_risk(told: dict[str, Any]) -> None:
    for kind in ("alone", "sampled"):
        first, second = (body["risk"]["score"] for body in told[kind])
        assert first == pytest.approx(second, abs=1e-5)
    assert told["json"]["risk"]["score"] == pytest.approx(first_risk(told), abs=1e-5)


def test_alone_and_within_fifteen_others_give_the_same_risk(told: dict[str, Any]) -> None:
    assert told["crowd"]["risk"]["score"] == pytest.approx(first_risk(told), abs=1e-3)
    assert told["crowd"]["answer"] == told["alone"][0]["answer"]


def test_photographs_escalate_as_out_of_domain(told: dict[str, Any]) -> None:
    reasons = [body["reason"] for body in told["outside"]]
    assert len(reasons) >= 20
    assert reasons.count("out_of_domain") >= 0.9 * len(reasons)
    truths = [true for photograph in photographs() for _, true in photograph.questions]
    for body, true in zip(told["outside"], truths, strict=True):
        assert body["decision"] != "accept" or body["answer"] == true


def test_held_out_line_images_are_inside(told: dict[str, Any]) -> None:
    outside = [body for body in told["line"] if not body["signals"]["domain"]["inside"]]
    assert len(outside) <= 0.1 * len(told["line"])


def first_risk(told: dict[str, Any]) -> float:
    score: float = told["alone"][0]["risk"]["score"]
    return score
