"""The client: typed answers, and when it comes back, waits or gives up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import AsyncClient, Client
from service.client import retry as call
from service.client.retry import OutOfTime, Refused, Unreachable

Reply = httpx.Response | Exception


def full(seconds: str | None = None, status: int = 503) -> httpx.Response:
    headers = {} if seconds is None else {"retry-after": seconds}
    problem = {"type": "urn:vlm-gate:problem:overloaded", "title": "Overloaded", "detail": "full"}
    return httpx.Response(status, json=problem, headers=headers)


class Service:
    """Gives the replies in turn, and takes time only when the client waits."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.requests = list(replies), list[httpx.Request]()
        self.now, self.pauses = 100.0, list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def later(self, request: httpx.Request) -> httpx.Response:
        return self(request)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_later(self, seconds: float) -> None:
        self.sleep(seconds)

    def client(self, **options: Any) -> Client:
        return Client(
            transport=httpx.MockTransport(self),
            sleep=self.sleep,
            clock=lambda: self.now,
            **options,
        )


@pytest.fixture
def answered() -> Callable[[], httpx.Response]:
    """A reply of the service, as it looks."""
    missing = {"missing": "not_requested"}
    signals = dict.fromkeys(
        ("hidden_state_probe", "token_confidence", "self_consistency", "attention", "evidence",
         "domain"), missing,
    )  # fmt: skip
    body = {
        "id": "01K", "answer": "yes", "decision": "accept", "reason": "risk_below_threshold",
        "risk": {"score": 0.1, "status": "ok", "accept_below": 0.2, "reject_above": None},
        "signals": signals, "certificate": missing, "model": {"name": "m", "revision": "r"},
        "bundle": "b", "mode": "enforce", "from_a_later_version": 1,
        "timing": {"queue_seconds": 0.0, "generate_seconds": 0.1, "total_seconds": 0.2},
    }  # fmt: skip
    return lambda: httpx.Response(200, json=body)


@pytest.mark.parametrize("status", [429, 503])
def test_it_comes_back_no_earlier_than_told_with_jitter(answered, status, monkeypatch):
    drawn = []
    monkeypatch.setattr(call.random, "uniform", lambda low, high: drawn.append(high) or high / 2)
    service = Service(full("3", status), full("1", status), full(None, status), answered())
    with service.client() as client:
        assert client.answer(b"png", "q").answer == "yes"
    assert drawn == [0.25, 0.5, 1.0]
    assert service.pauses == [3.125, 1.25, 0.5]
    keys = {request.headers["idempotency-key"] for request in service.requests}
    assert len(keys) == 1


def test_it_gives_up_after_its_tries_and_says_why():
    service = Service(*[full("0")] * 3)
    with service.client(tries=3) as client, pytest.raises(Refused, match="503 Overloaded: full"):
        client.answer(b"png", "q")
    assert len(service.requests) == 3


def test_it_does_not_wait_beyond_the_deadline(answered):
    service = Service(full("30"), answered())
    with service.client(deadline_seconds=20) as client, pytest.raises(Refused) as refused:
        client.answer(b"png", "q")
    assert refused.value.status == 503
    assert service.pauses == []


def test_each_try_is_given_what_is_left(answered):
    service = Service(full("4"), answered())
    with service.client(deadline_seconds=20) as client:
        client.answer(b"png", "q")
    left = [float(request.headers["x-request-timeout"]) for request in service.requests]
    assert left[0] == 20
    assert 15 < left[1] <= 16
    assert service.requests[1].extensions["timeout"]["read"] == pytest.approx(left[1], abs=1e-3)


def test_a_timeout_at_the_deadline_is_said(answered):
    service = Service()

    def slow(request: httpx.Request) -> httpx.Response:
        service.now += 20
        raise httpx.ReadTimeout("slow", request=request)

    made = Client(
        transport=httpx.MockTransport(slow), clock=lambda: service.now, deadline_seconds=20
    )
    with made as client, pytest.raises(OutOfTime, match="within 20 s"):
        client.answer(b"png", "q")


@pytest.mark.parametrize("status", [400, 401, 413, 422, 500, 504])
def test_what_will_not_get_better_is_not_tried_again(status):
    problem = {"type": "urn:vlm-gate:problem:bad", "detail": "mend it", "field": "image"}
    service = Service(httpx.Response(status, json=problem))
    with service.client() as client, pytest.raises(Refused) as refused:
        client.answer(b"png", "q")
    told = refused.value
    assert (told.status, told.kind, told.field, told.detail) == (status, "bad", "image", "mend it")


def test_a_broken_connection_is_tried_again(answered):
    service = Service(httpx.ConnectError("refused"), httpx.ReadError("reset"), answered())
    with service.client() as client:
        assert client.answer(b"png", "q").id == "01K"
    service = Service(*[httpx.ConnectError("refused")] * 2)
    with service.client(tries=2) as client, pytest.raises(Unreachable, match="vlm-gate serve"):
        client.answer(b"png", "q")


@pytest.mark.parametrize("url", ["ftp://gate", "http://[", "gate"])
def test_a_url_that_is_none_is_said_at_once(url):
    with Client(url) as client, pytest.raises(Unreachable):
        client.answer(b"png", "q")


def test_something_else_that_answers_is_no_service():
    service = Service(httpx.Response(200, text="<html>"))
    with service.client() as client, pytest.raises(Unreachable, match="is it a vlm-gate"):
        client.answer(b"png", "q")


def test_options_key_and_trace_are_sent(answered, tmp_path: Path):
    image = tmp_path / "plate.png"
    image.write_bytes(b"PLATE")
    service = Service(answered())
    with service.client(api_key="k-1") as client:
        client.answer(image, "q", evidence=True, samples=7, metadata={"line": "3"}, traceparent="t")
    (request,) = service.requests
    body = request.read()
    assert request.headers["authorization"] == "Bearer k-1"
    assert request.headers["traceparent"] == "t"
    for part in (b"PLATE", b"true", b"7", b'{"line": "3"}'):
        assert part in body


def test_an_outcome_is_told():
    service = Service(httpx.Response(201, json={}), httpx.Response(201, json={}))
    with service.client() as client:
        client.outcome("01K", correct=False, reviewer="anna")
        client.outcome("01K", cannot_tell=True, note="too dark")
        for said in ({}, {"correct": True, "cannot_tell": True}, {"cannot_tell": False}):
            with pytest.raises(ValueError, match="one of correct, reference and cannot_tell"):
                client.outcome("01K", **said)
    first, second = service.requests
    assert first.url.path == "/v1/outcomes"
    assert json.loads(first.read()) == {"id": "01K", "correct": False, "reviewer": "anna"}
    assert json.loads(second.read()) == {"id": "01K", "cannot_tell": True, "note": "too dark"}


def test_async_does_the_same(answered):
    service = Service(full("2"), httpx.ReadError("reset"), answered(), httpx.Response(201, json={}))

    async def talk() -> str:
        async with AsyncClient(
            transport=httpx.MockTransport(service.later),
            sleep=service.sleep_later,
            clock=lambda: service.now,
        ) as client:
            answer = await client.answer(b"png", "q", max_tokens=8)
            await client.outcome(answer.id, reference="no")
        return answer.answer

    assert asyncio.run(talk()) == "yes"
    assert service.pauses[0] >= 2
    assert len(service.requests) == 4


def test_both_against_a_real_service(live, png):
    with live() as service:
        with Client(service.url) as client:
            answer = client.answer(png, "Is it whole?", self_consistency="always", samples=10)

        async def talk() -> Any:
            async with AsyncClient(service.url) as other:
                return await other.answer(png, "Is it whole?", self_consistency="always")

        again = asyncio.run(talk())
    assert answer.answer == again.answer == "yes"
    assert answer.risk == again.risk
    assert answer.certificate == again.certificate
