"""Life: refused at start, tested before ready, drained at the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import numpy as np
import pytest

from probes.errors import BundleError
from service.app import create_app
from service.engines.base import EngineError
from service.settings import Settings

pytestmark = pytest.mark.anyio
SETTINGS = Settings(engine="fake", records_url="")


async def test_alive_and_ready(serve):
    async with serve() as client:
        for path, body in (
            ("/healthz", {"live": True}),
            ("/v2/health/live", {"live": True}),
            ("/readyz", {"ready": True, "state": "ready"}),
            ("/v2/health/ready", {"ready": True, "state": "ready"}),
        ):
            reply = await client.get(path)
            assert (reply.status_code, reply.json()) == (200, body)


async def test_not_ready_until_the_self_test_has_passed(engine, bundled, png):
    app = create_app(SETTINGS, engine, bundled())
    engine.hold()
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gate") as client,
    ):
        before = await client.get("/readyz")
        asked = await client.post("/answer", data={"question": "q"}, files={"image": png})
        engine.release()
        await app.state.gate.tested.wait()
        after = await client.get("/readyz")
    assert (before.status_code, before.json()["state"]) == (503, "starting")
    assert asked.status_code == 503
    assert asked.headers["retry-after"] == "5"
    assert after.status_code == 200


async def test_another_readout_is_never_ready(serve, bundled, png):
    bundle = bundled()
    first, second = bundle.golden
    moved = replace(second, readouts={k: v + 0.5 for k, v in second.readouts.items()})
    async with serve(replace(bundle, golden=(first, moved))) as client:
        ready = await client.get("/readyz")
        live = await client.get("/healthz")
        asked = await client.post("/answer", data={"question": "q"}, files={"image": png})
    assert ready.status_code == 503
    assert "golden 1 alone, layer 2, answer_last: deviates by" in ready.json()["detail"]
    assert live.status_code == 200
    assert (asked.status_code, asked.json()["title"]) == (503, "Unavailable")


async def test_a_deviation_only_in_the_batch_is_found(serve, engine, bundled, monkeypatch):
    bundle, generate, running = bundled(), engine.generate, 0

    async def disturbed(query, readout):
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0)
            crowded = running > 1
            generation = await generate(query, readout)
        finally:
            running -= 1
        if not crowded:
            return generation
        readouts = {place: row + 1 for place, row in generation.trace.readouts.items()}
        return replace(generation, trace=replace(generation.trace, readouts=readouts))

    monkeypatch.setattr(engine, "generate", disturbed)
    async with serve(bundle) as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "in a mixed batch" in ready.json()["detail"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: replace(b, golden=()), "no golden examples"),
        (lambda b: replace(b, golden=(_reshaped(b.golden[0]),)), "shape"),
        (lambda b: replace(b, golden=(_elsewhere(b.golden[0]),)), "nothing was read"),
    ],
)
async def test_what_cannot_be_compared_fails_the_self_test(serve, bundled, change, said):
    async with serve(change(bundled())) as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert said in ready.json()["detail"]


def _reshaped(golden):
    return replace(golden, readouts={k: np.zeros(99) for k in golden.readouts})


def _elsewhere(golden):
    return replace(golden, readouts={(1, "prompt_last"): np.zeros(3)})


@pytest.mark.parametrize(
    ("field", "value"), [("layers", 5), ("revision", "other"), ("chat_template_hash", "other")]
)
async def test_another_model_is_refused_at_start_by_name(engine, bundled, field, value):
    bundle = bundled()
    bundle = replace(bundle, model=replace(bundle.model, **{field: value}))
    app = create_app(SETTINGS, engine, bundle)
    with pytest.raises(BundleError, match=f"model.{field}"):
        async with app.router.lifespan_context(app):
            pass
    assert f"model.{field}" in app.state.gate.why


async def test_a_failed_engine_is_neither_alive_nor_ready(serve, engine):
    async with serve() as client:
        engine.failure = EngineError("gone")
        replies = [await client.get(path) for path in ("/healthz", "/readyz")]
    assert [reply.status_code for reply in replies] == [503, 503]


async def test_draining_finishes_what_it_has_and_takes_no_more(engine, bundled, png):
    app = create_app(SETTINGS, engine, bundled())
    transport = httpx.ASGITransport(app)
    asked = {"data": {"question": "q"}, "files": {"image": png}}
    async with app.router.lifespan_context(app):
        gate = app.state.gate
        await gate.tested.wait()
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            engine.hold()
            held = asyncio.create_task(client.post("/answer", **asked))
            async with asyncio.timeout(5):
                while gate.admission.inflight == 0:
                    await gate.aside(int)
            gate.admission.draining = True
            ready = await client.get("/readyz")
            refused = await client.post("/answer", **asked)
            closing = asyncio.create_task(gate.close())
            engine.release()
            await closing
            answered = await held
    assert (ready.status_code, ready.json()["state"]) == (503, "draining")
    assert refused.status_code == 503
    assert refused.json()["type"].endswith("draining")
    assert "retry-after" in refused.headers
    assert answered.status_code == 200
    assert not engine.healthy
