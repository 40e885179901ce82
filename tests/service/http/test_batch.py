"""POST /v1/answers:batch: line by line, in order, around bad lines, behind single questions."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from typing import Any

import pytest
from starlette.requests import Request

from service.access.authenticator import Caller
from service.errors import ServiceError
from service.gate.arrival import HeldBytes
from service.http.batch_lines import Lines

pytestmark = pytest.mark.anyio
JSONL = {"content-type": "application/jsonl"}


def line(png: bytes, question: str = "Is there a scratch?", **options: Any) -> bytes:
    image = base64.b64encode(png).decode()
    return json.dumps({"question": question, "image": image, **options}).encode()


async def post(client: Any, *lines: bytes, **headers: str) -> list[dict[str, Any]]:
    reply = await client.post(
        "/v1/answers:batch", content=b"\n".join(lines), headers=JSONL | headers
    )
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/jsonl"
    return [json.loads(told) for told in reply.text.splitlines()]


async def test_each_line_has_the_answer_that_it_has_alone(serve, png):
    questions = [f"How many screws? {n}" for n in range(9)]
    async with serve(batch_concurrency=3) as client:
        told = await post(client, *(line(png, question) for question in questions))
        alone = [
            (await client.post("/answer", json=json.loads(line(png, question)))).json()
            for question in questions
        ]
        counted = (await client.get("/metrics")).text
    assert [one["line"] for one in told] == list(range(1, 10))
    assert [one["risk"] for one in told] == [one["risk"] for one in alone]
    assert len({one["id"] for one in told}) == 9
    assert "vlm_gate_risk_score_count 18.0" in counted


async def test_evidence_of_the_lines_that_ask_for_it(serve, png):
    async with serve() as client:
        asked, plain = await post(client, line(png, evidence=True), line(png))
    assert "logprob_drop_blank" in asked["signals"]["evidence"]
    assert plain["signals"]["evidence"] == {"missing": "not_requested"}


async def test_a_bad_line_has_its_number_and_the_rest_goes_on(serve, png):
    long = line(png, "q" * 90_000)
    async with serve(max_image_bytes=8192) as client:
        told = await post(
            client, line(png), b"{", b"", line(png, samples=0), long, b" ", line(b"no image"),
            line(png, "last?"),
        )  # fmt: skip
        counted = (await client.get("/metrics")).text
    assert [one["line"] for one in told] == [1, 2, 4, 5, 7, 8]
    assert [one.get("status", 200) for one in told] == [200, 400, 422, 413, 422, 200]
    problem = told[2]
    assert (problem["field"], problem["type"]) == ("samples", "urn:vlm-gate:problem:invalid_field")
    assert "correct it" in problem["detail"]
    assert 'rejected_requests_total{reason="too_many_bytes"} 1.0' in counted


async def test_only_so_many_lines(serve, png):
    async with serve(batch_lines=2) as client:
        told = await post(client, *[line(png)] * 4)
    assert [one.get("status", 200) for one in told] == [200, 200, 413]
    assert "more than 2 lines" in told[2]["detail"]
    assert told[2]["line"] == 3


async def test_what_is_no_batch_is_refused_as_a_whole(serve, png):
    async with serve() as client:
        typed = await client.post("/v1/answers:batch", content=line(png))
        kept = await client.post(
            "/v1/answers:batch", content=line(png), headers=JSONL | {"idempotency-key": "k"}
        )
        empty = await post(client)
    assert (typed.status_code, typed.json()["field"]) == (415, "Content-Type")
    assert (kept.status_code, kept.json()["field"]) == (422, "Idempotency-Key")
    assert empty == []


async def test_lines_wait_while_single_questions_take_the_room(serve, engine, png):
    single = json.loads(line(png))
    async with serve(max_inflight=2, max_queue=4) as client:
        admission = client._transport.app.state.gate.admission
        engine.hold()
        held = [asyncio.create_task(client.post("/answer", json=single)) for _ in range(3)]
        async with asyncio.timeout(30):
            while admission.inflight + admission.waiting < 3:
                await asyncio.get_running_loop().run_in_executor(None, int)
        batch = asyncio.create_task(post(client, *[line(png)] * 5))
        for _ in range(50):
            await asyncio.get_running_loop().run_in_executor(None, int)
        assert (admission.inflight, admission.waiting) == (2, 1)
        engine.release()
        assert [reply.status_code for reply in await asyncio.gather(*held)] == [200] * 3
        assert [one.get("status", 200) for one in await batch] == [200] * 5


async def test_lines_that_never_get_room_are_told_so(serve, engine, png):
    async with serve(max_inflight=1, deadline_seconds=0.2) as client:
        gate = client._transport.app.state.gate
        with gate.admission.place("a"):
            told = await post(client, line(png))
    assert (told[0]["status"], told[0]["type"]) == (503, "urn:vlm-gate:problem:overloaded")


async def test_no_more_lines_at_once_than_set(serve, engine, png):
    most = 0
    generate = engine.generate

    async def watched(*args: Any) -> Any:
        nonlocal most
        most = max(most, engine._open + 1)
        return await generate(*args)

    engine.generate = watched
    async with serve(batch_concurrency=2) as client:
        told = await asyncio.gather(*(post(client, *[line(png)] * 6) for _ in range(2)))
    assert [len(lines) for lines in told] == [6, 6]
    assert most == 2


def test_an_answer_comes_before_the_next_line_is_sent(live, png):
    with live() as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            reader = wire.makefile("rb")
            wire.sendall(
                b"POST /v1/answers:batch HTTP/1.1\r\nhost: gate\r\n"
                b"content-type: application/jsonl\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for number in (1, 2):
                sent = line(png) + b"\n"
                wire.sendall(b"%x\r\n%s\r\n" % (len(sent), sent))
                while not (told := reader.readline()).startswith(b"{"):
                    assert told
                assert json.loads(told)["line"] == number
            wire.sendall(b"0\r\n\r\n")
            assert reader.read().strip().endswith(b"0")


def test_a_sender_that_reads_late_is_not_locked_out(live, png):
    """All of a long batch is taken although nobody reads the answers yet."""
    lines = b"".join(line(png, f"{n}?") + b"\n" for n in range(300))
    with live() as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.settimeout(120)
            wire.connect((host, int(port)))
            head = "POST /v1/answers:batch HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n"
            head += f"content-type: application/jsonl\r\ncontent-length: {len(lines)}\r\n\r\n"
            wire.sendall(head.encode() + lines)
            told = wire.makefile("rb").read()
    assert told.count(b'"line": ') == 300


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_lines_are_split_wherever_the_chunks_end(size):
    text = b"one\n\ntoolong\ntwo"

    async def receive():
        chunk = whole.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(whole)}

    whole = [text[at : at + size] for at in range(0, len(text), size)]
    held = HeldBytes(100, 100)
    scope = {"type": "http", "state": {"caller": Caller("a", frozenset())}}
    lines = [line async for line in Lines(Request(scope, receive), held, 5, 60).read()]
    assert [(one.number, one.content) for one in lines if isinstance(one.content, bytes)] == [
        (1, b"one"), (4, b"two"),
    ]  # fmt: skip
    assert [one.number for one in lines if isinstance(one.content, ServiceError)] == [3]
    assert held.total == len(b"onetwo")
    for one in lines:
        held.close(one.arrival)
    assert held.total == 0
