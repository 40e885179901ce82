"""Idempotency-Key: one answer for one request, however often it is sent."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from starlette.responses import Response

from service.engines.base import EngineError
from service.errors import Invalid
from service.http.idempotency import Replies

pytestmark = pytest.mark.anyio
KEY = {"idempotency-key": "part-4711"}


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """A reply that knows how often it was made."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.times = status, 0
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> Response:
        self.times += 1
        mine = self.times
        self.begun.set()
        await self.go_on.wait()
        return Response(f"{mine}", self.status)


def asked(png: bytes, question: str = "Is there a scratch?") -> dict[str, str]:
    return {"question": question, "image": base64.b64encode(png).decode()}


async def test_the_same_request_has_the_same_response(serve, png):
    async with serve() as client:
        first = await client.post("/v1/answer", json=asked(png), headers=KEY)
        again = await client.post("/v1/answer", json=asked(png), headers=KEY)
        other = await client.post("/v1/answer", json=asked(png), headers={"idempotency-key": "2"})
        counted = (await client.get("/metrics")).text
    assert first.content == again.content
    assert first.json()["id"] != other.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert "vlm_gate_risk_score_count 2.0" in counted


async def test_a_form_sent_again_is_the_same_though_its_boundary_differs(serve, png):
    async with serve() as client:
        sent = [
            await client.post(
                "/v1/answer", data={"question": question}, files={"image": png}, headers=KEY
            )
            for question in ("Is it whole?", "Is it whole?", "Is it broken?")
        ]
    bodies = [reply.request.headers["content-type"] for reply in sent]
    assert bodies[0] != bodies[1]
    assert sent[0].content == sent[1].content
    assert sent[2].status_code == 422


async def test_another_body_under_the_same_key_is_refused(serve, png):
    async with serve() as client:
        await client.post("/v1/answer", json=asked(png), headers=KEY)
        refused = await client.post("/v1/answer", json=asked(png, "What else?"), headers=KEY)
        foreign = await client.post(
            "/v1/answer", json=asked(png, "What else?"), headers=KEY | {"authorization": "Bearer b"}
        )
        long = await client.post(
            "/v1/answer", json=asked(png), headers={"idempotency-key": "k" * 256}
        )
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:vlm-gate:problem:idempotency_key_reused"
    assert refused.json()["field"] == "Idempotency-Key"
    assert "new key" in refused.json()["detail"]
    assert foreign.status_code == 200  # another caller's keys are others
    assert long.status_code == 422


async def test_an_error_is_not_kept(serve, engine, png):
    async with serve() as client:
        engine.failure = EngineError("gone")
        failed = await client.post("/v1/answer", json=asked(png), headers=KEY)
        engine.failure = None
        answered = await client.post("/v1/answer", json=asked(png), headers=KEY)
    assert (failed.status_code, answered.status_code) == (503, 200)


async def test_concurrent_duplicates_wait_for_the_first(serve, engine, png):
    async with serve() as client:
        engine.hold()
        sent = [
            asyncio.create_task(client.post("/v1/answer", json=asked(png), headers=KEY))
            for _ in range(5)
        ]
        async with asyncio.timeout(30):
            while engine._open == 0:
                await asyncio.get_running_loop().run_in_executor(None, int)
        engine.release()
        replies = await asyncio.gather(*sent)
        counted = (await client.get("/metrics")).text
    assert len({reply.content for reply in replies}) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 4
    assert "vlm_gate_risk_score_count 1.0" in counted


async def test_a_stream_is_kept_whole(serve, png):
    image = {"url": "data:image/png;base64," + base64.b64encode(png).decode()}
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": image}]
    body = {
        "model": "fake", "stream": True, "messages": [{"role": "user", "content": content}],
    }  # fmt: skip
    async with serve(stream_hold=False) as client:
        first = await client.post("/v1/chat/completions", json=body, headers=KEY)
        again = await client.post("/v1/chat/completions", json=body, headers=KEY)
    assert first.text.endswith("data: [DONE]\n\n")
    assert first.content == again.content
    assert again.headers["content-type"].startswith("text/event-stream")


async def test_who_waits_tries_anew_when_the_first_failed():
    replies, failing, answering = Replies(60, 10), Counted(503), Counted()
    failing.go_on.clear()
    first = asyncio.create_task(replies.get(b"k", b"f", failing))
    second = asyncio.create_task(replies.get(b"k", b"f", answering))
    await failing.begun.wait()
    assert answering.times == 0
    failing.go_on.set()
    assert ((await first).status_code, (await second).status_code) == (503, 200)


async def test_who_is_cancelled_lets_the_next_try():
    replies, held, answering = Replies(60, 10), Counted(), Counted()
    held.go_on.clear()
    first = asyncio.create_task(replies.get(b"k", b"f", held))
    second = asyncio.create_task(replies.get(b"k", b"f", answering))
    await held.begun.wait()
    first.cancel()
    assert (await second).status_code == 200
    assert answering.times == 1


async def test_answers_expire_and_are_bounded():
    clock, reply = Clock(), Counted()
    replies = Replies(60, 3, clock)
    for number in range(10):
        await replies.get(b"%d" % number, b"f", reply)
        clock.now += 1
    assert len(replies) == 3
    assert (await replies.get(b"9", b"f", reply)).body == b"10"  # kept
    assert (await replies.get(b"0", b"f", reply)).body == b"11"  # pushed out
    clock.now += 61
    assert (await replies.get(b"9", b"g", reply)).body == b"12"  # expired: the key is free
    assert len(replies) == 1
    with pytest.raises(Invalid):
        await replies.get(b"9", b"h", reply)


def form(boundary: str, question: str, image: bytes, name: str = "question") -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; name="
    return (
        f'{head}"{name}"\r\n\r\n{question}\r\n{head}"image"; filename="a"\r\n\r\n'.encode()
        + image
        + f"\r\n--{boundary}--\r\n".encode()
    )


JSON_TYPE = "application/json"
CLAIMED = "application/json; boundary=bb"
FORM_TYPE = "multipart/form-data; boundary="
REUSED: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    # type and what stands in the question, of the first request and of the one after
    "JSON that claims a boundary": ((CLAIMED, "Is it --bb whole?"), (CLAIMED, "Is it -- whole?")),
    "JSON that claims a boundary, once": (
        ("application/json; boundary=x", "Is it --x whole?"), (JSON_TYPE, "Is it -- whole?"),
    ),
    "JSON that claims a quoted boundary": (
        ('application/json; boundary="a"', "Is --a it?"),
        ('application/json; boundary="a"', "Is -- it?"),
    ),
    "a form with its boundary in the question": (
        (FORM_TYPE + "bb", "Is it a--bb whole?"), (FORM_TYPE + "bb", "Is it a-- whole?"),
    ),
    "a form with two boundaries claimed": (
        (FORM_TYPE + "bb; x=boundary=q", "Is --q it?"),
        (FORM_TYPE + "bb; x=boundary=q", "Is -- it?"),
    ),
    "a form in another charset": (
        (FORM_TYPE + "bb", "Is it \u00fc?"),
        (FORM_TYPE + "bb; charset=iso-8859-1", "Is it \u00fc?"),
    ),
    "a form whose boundary has a blank": (
        (FORM_TYPE + '"b b"', "Is it --b b whole?"), (FORM_TYPE + '"b b"', "Is it -- whole?"),
    ),
    "JSON, then a form": ((JSON_TYPE, "Is it?"), (FORM_TYPE + "bb", "Is it?")),
}  # fmt: skip


@pytest.mark.parametrize("name", REUSED)
async def test_another_question_under_the_same_key_is_refused(serve, png, name):
    async with serve() as client:
        statuses = []
        for kind, question in REUSED[name]:
            boundary = kind.partition("boundary=")[2].partition(";")[0].strip('"') or "none"
            body = json.dumps(asked(png, question)).encode()
            if kind.startswith("multipart"):
                body = form(boundary, question, png)
            headers = KEY | {"content-type": kind}
            statuses.append((await client.post("/v1/answer", content=body, headers=headers)).json())
    assert "answer" in statuses[0], statuses[0]
    assert statuses[1].get("type") == "urn:vlm-gate:problem:idempotency_key_reused"
