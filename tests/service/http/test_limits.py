"""Deadlines, quotas and the watchdog as a caller meets them."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.anyio

QUESTION = {"question": "Is it whole?"}


@pytest.mark.parametrize("sent", ["soon", "0", "-1", "nan", ""])
async def test_a_time_that_is_none_is_refused(serve, png, sent):
    async with serve() as client:
        told = await client.post(
            "/v1/answer", data=QUESTION, files={"image": png}, headers={"X-Request-Timeout": sent}
        )
    assert (told.status_code, told.json()["field"]) == (400, "X-Request-Timeout")


async def test_the_header_shortens_the_deadline_and_never_lengthens_it(serve, engine, png):
    async with serve(deadline_seconds=0.05) as client:
        engine.hold()
        for header, told in (("0.02", "within 0.02 s"), ("3600", "within 0.05 s")):
            late = await client.post(
                "/v1/answer",
                data=QUESTION,
                files={"image": png},
                headers={"X-Request-Timeout": header},
            )
            assert late.status_code == 504
            assert told in late.json()["detail"]
        engine.release()


async def test_evidence_counts_towards_the_deadline(serve, engine, png, monkeypatch):
    async def never(*args):
        await asyncio.Event().wait()

    monkeypatch.setattr(engine, "score", never)
    async with serve(deadline_seconds=2) as client:
        late = await client.post(
            "/v1/answer", data={**QUESTION, "evidence": "true"}, files={"image": png}
        )
        plain = await client.post("/v1/answer", data=QUESTION, files={"image": png})
    assert (late.status_code, plain.status_code) == (504, 200)


async def test_a_place_is_taken_before_the_body_is_read(serve, png):
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield b'{"question": "q", "image": "'
        sent.set()
        await go_on.wait()
        yield b'!"}'

    json_type = {"content-type": "application/json"}
    async with serve(max_inflight=1, max_queue=0) as client:
        slow = asyncio.create_task(client.post("/v1/answer", content=slowly(), headers=json_type))
        await sent.wait()
        refused = await client.post("/v1/answer", data=QUESTION, files={"image": png})
        go_on.set()
        assert (await slow).status_code == 422
        again = await client.post("/v1/answer", data=QUESTION, files={"image": png})
    assert (refused.status_code, again.status_code) == (503, 200)
    assert refused.json()["type"].endswith("overloaded")


async def test_more_than_the_quota_is_a_429(serve, png):
    async with serve(quota_per_second=0.001, quota_burst=2) as client:
        codes = []
        for _ in range(3):
            last = await client.post("/v1/answer", data=QUESTION, files={"image": png})
            codes.append(last.status_code)
        metrics = (await client.get("/metrics")).text
    assert codes == [200, 200, 429]
    assert int(last.headers["retry-after"]) > 0
    assert 'vlm_gate_rejected_requests_total{reason="quota_spent"} 1.0' in metrics


async def test_an_engine_that_hangs_is_given_up(serve, engine, png):
    async with serve(engine_timeout_seconds=1) as client:
        engine.hold()
        asked = [client.post("/v1/answer", data=QUESTION, files={"image": png}) for _ in range(2)]
        for told in await asyncio.wait_for(asyncio.gather(*asked), 20):
            assert told.status_code == 503
            assert "retry-after" in told.headers
        for path in ("/readyz", "/healthz"):
            assert (await client.get(path)).status_code == 503
        after = await client.post("/v1/answer", data=QUESTION, files={"image": png})
        assert after.json()["type"].endswith("engine_hung")
