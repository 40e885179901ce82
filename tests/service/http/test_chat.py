"""The official `openai` client, unchanged, against the service on a real socket."""

from __future__ import annotations

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from service.engines.fake import FakeEngine
from service.errors import TooLate

QUESTION = "Is there a scratch?"
FIELDS = {"decision", "reason", "risk", "signals", "certificate", "mode"}


def message(png: bytes, question: str = QUESTION) -> dict[str, Any]:
    image = "data:image/png;base64," + base64.b64encode(png).decode()
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": image}},
        ],
    }


def connect(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def asked(png: bytes, **options: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [message(png)], **options}


def told(completion: ChatCompletion) -> dict[str, Any]:
    assert completion.model_extra is not None
    found: dict[str, Any] = completion.model_extra["reliability"]
    return found


class SlowSamples(FakeEngine):
    """Samples wait until they are let go; that someone waits is told."""

    def __init__(self) -> None:
        super().__init__(answer_for=lambda query: "yes")
        self.sampling, self.go_on = threading.Event(), threading.Event()
        self.failing: Exception | None = None

    async def sample(self, *args: Any, **options: Any) -> tuple[str, ...]:
        self.sampling.set()
        await asyncio.to_thread(self.go_on.wait, 60)
        if self.failing is not None:
            raise self.failing
        return await super().sample(*args, **options)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    made: FakeEngine = getattr(request, "param", lambda: FakeEngine(answer_for=lambda q: "yes"))()
    return made


def test_plain_streamed_and_async_say_what_the_answer_route_says(live, png):
    with live() as service, connect(service.url) as client:
        models = client.models.list()
        assert [model.id for model in models] == ["fake"]
        assert client.models.retrieve("fake").owned_by == "vlm-gate"

        plain = client.chat.completions.create(**asked(png, max_tokens=32))
        assert plain.choices[0].message.content == "yes"
        assert (plain.choices[0].finish_reason, plain.model) == ("stop", "fake")
        assert told(plain).keys() == FIELDS

        own = httpx.post(
            f"{service.url}/v1/answer",
            data={"question": QUESTION},
            files={"image": png},
            timeout=60,
        ).json()
        assert told(plain) == {name: own[name] for name in FIELDS}

        chunks = list(client.chat.completions.create(**asked(png, stream=True)))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "yes"
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * 2
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert all("reliability" not in (chunk.model_extra or {}) for chunk in chunks[:-1])
        assert (chunks[-1].model_extra or {})["reliability"] == told(plain)
        assert len({chunk.id for chunk in chunks}) == 1

        async def talk() -> tuple[ChatCompletion, list[Any]]:
            async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as other:
                whole = await other.chat.completions.create(**asked(png))
                stream = await other.chat.completions.create(**asked(png, stream=True))
                return whole, [chunk async for chunk in stream]

        whole, pieces = asyncio.run(talk())
        assert told(whole) == told(plain)
        assert (pieces[-1].model_extra or {})["reliability"] == told(plain)


def test_the_gates_own_options_pass_in_extra_body(live, png):
    with live() as service, connect(service.url) as client:
        options = {"self_consistency": "always", "samples": 10, "evidence": True}
        completion = client.chat.completions.create(**asked(png, extra_body=options))
    assert told(completion)["signals"]["self_consistency"]["samples"] >= 5
    assert told(completion)["signals"]["evidence"].keys() >= {"flipped_blank", "flipped_top30"}
    assert told(completion)["certificate"]["id"] == "c-always"


def test_what_it_cannot_do_is_refused_with_the_field_and_the_mend(live, png):
    one = message(png)
    text, image = one["content"]
    damaged = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    remote = {"type": "image_url", "image_url": {"url": "https://example.com/plate.png"}}

    def content(*parts: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": list(parts)}]}

    tool = {"type": "function", "function": {"name": "f"}}
    cases: list[tuple[dict[str, Any], str, str]] = [
        (content(text, image, image), "messages.0.content", "exactly one image"),
        (content(text), "messages.0.content", "exactly one image"),
        (content(image), "messages.0.content", "exactly one question"),
        (content(text, text, image), "messages.0.content", "exactly one question"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "messages.0.content", "exactly one"),
        ({"messages": [one, one]}, "messages", "send one"),
        ({"messages": []}, "messages", "correct it"),
        ({"messages": [{"role": "system", "content": "Be brief."}, one]}, "messages.0.role", "put"),
        ({"messages": [one, {"role": "assistant", "content": "yes"}]}, "messages.1.role", "put"),
        (content(text, damaged), "messages.0.content.1.image_url.url", "send"),
        (content(text, remote), "messages.0.content.1.image_url.url", "send the image itself"),
        (content({"type": "text", "text": " "}, image), "messages.0.content.0.text", "ask"),
        (content(text, {"type": "input_audio"}), "messages.0.content.1.type", "correct it"),
        ({"n": 2}, "n", "send 1"),
        ({"temperature": 0.7}, "temperature", "send 0"),
        ({"top_p": 0.5}, "top_p", "leave it out"),
        ({"tools": [tool]}, "tools", "leave it out"),
        ({"stop": ["."]}, "stop", "leave it out"),
        ({"logprobs": True}, "logprobs", "leave it out"),
        ({"response_format": {"type": "json_object"}}, "response_format", "leave it out"),
        ({"max_tokens": 100_000}, "max_tokens", "correct it"),
        ({"stream": True, "stream_options": {"include_usage": True}},
         "stream_options.include_usage", "leave it out"),
        ({"extra_body": {"guided_choice": ["yes"]}}, "guided_choice", "remove it"),
    ]  # fmt: skip
    with live() as service, connect(service.url) as client:
        for change, param, mend in cases:
            with pytest.raises(openai.UnprocessableEntityError) as refused:
                client.chat.completions.create(**{**asked(png), **change})
            error = refused.value
            assert (error.param, error.type) == (param, "invalid_request_error"), change
            assert param in str(error)
            assert mend in str(error)
            assert error.code
        for harmless in ({"temperature": 0}, {"n": 1, "seed": 7}, {"tools": []}, {"user": "me"}):
            client.chat.completions.create(**{**asked(png), **harmless})
        with pytest.raises(openai.NotFoundError, match="send 'model': 'fake'") as missing:
            client.chat.completions.create(**asked(png, model="gpt-4o"))
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")
        counted = httpx.get(f"{service.url}/metrics", timeout=60).text
        assert 'rejected_requests_total{reason="model_not_found"} 2.0' in counted


def test_errors_of_every_origin_have_the_openai_shape(live, engine, png):
    with live() as service, connect(service.url) as client:
        post = f"{service.url}/v1/chat/completions"
        json, text = {"content-type": "application/json"}, {"content-type": "text/plain"}
        for reply, status, param in (
            (httpx.post(post, content=b"{", headers=json, timeout=60), 400, "body"),
            (httpx.post(post, content=b"", headers=json, timeout=60), 400, "body"),
            (httpx.post(post, content=b"x", headers=text, timeout=60), 415, "Content-Type"),
            (httpx.get(post, timeout=60), 405, None),
            (httpx.post(post, content=bytes(17_000_000), headers=json, timeout=60), 413, "body"),
        ):  # fmt: skip
            assert reply.headers["content-type"] == "application/json"
            error = reply.json()["error"]
            assert (reply.status_code, error["param"]) == (status, param)
            assert error.keys() == {"message", "type", "param", "code"}
        service.gate._state = "starting"
        with pytest.raises(openai.InternalServerError, match="not ready") as away:
            client.chat.completions.create(**asked(png))
        assert away.value.status_code == 503
        assert away.value.type == "server_error"
        assert away.value.response.headers["retry-after"] == "5"


@pytest.mark.parametrize("engine", [SlowSamples], indirect=True)
def test_a_stream_is_held_until_the_decision_unless_it_is_told_not_to(live, engine, png):
    options = asked(png, stream=True, extra_body={"self_consistency": "always"})
    with live() as service, connect(service.url) as client, ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.chat.completions.create, **options)
        assert engine.sampling.wait(60)
        assert not held.done()
        engine.go_on.set()
        assert len(list(held.result(60))) == 3

    engine.go_on.clear()
    with live(stream_hold=False) as service, connect(service.url) as client:
        stream = iter(client.chat.completions.create(**options))
        early = [next(stream), next(stream)]
        assert early[1].choices[0].delta.content == "yes"
        assert not engine.go_on.is_set()
        engine.go_on.set()
        (last,) = stream
    assert (last.model_extra or {})["reliability"]["decision"] in {"accept", "escalate", "reject"}


@pytest.mark.parametrize("engine", [SlowSamples], indirect=True)
@pytest.mark.parametrize(
    ("failure", "said"),
    [(TooLate("no answer within 1 s", kind="deadline"), "no answer within 1 s"),
     (RuntimeError("secret"), "do not use the answer")],
)  # fmt: skip
def test_an_error_after_an_early_answer_is_the_last_event(live, engine, png, failure, said):
    engine.failing = failure
    options = asked(png, stream=True, extra_body={"self_consistency": "always"})
    with live(stream_hold=False) as service, connect(service.url) as client:
        stream = iter(client.chat.completions.create(**options))
        assert next(stream).choices[0].delta.role == "assistant"
        assert next(stream).choices[0].delta.content == "yes"
        engine.go_on.set()
        with pytest.raises(openai.APIError, match=said):
            next(stream)
        again = httpx.get(f"{service.url}/metrics", timeout=60).text
    kind = getattr(failure, "kind", "internal_error")
    assert f'rejected_requests_total{{reason="{kind}"}} 1.0' in again
