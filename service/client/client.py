"""A typed client of the service, sync and async, that comes back when it is told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from uuid import uuid4

import httpx
from pydantic import ValidationError

from probes.types import ConsistencyMode
from service.client.retry import Call, Unreachable
from service.schemas.answer import AnswerResponse

URL = "http://127.0.0.1:8080"
DEADLINE_SECONDS = 60.0
TRIES = 5


class Options(TypedDict, total=False):
    """How an answer is to be judged; what is left out is the service's choice."""

    self_consistency: ConsistencyMode
    samples: int
    evidence: bool
    max_tokens: int
    metadata: Mapping[str, str]
    group: str


class Word(TypedDict, total=False):
    """What an answer turned out to be: one of the first three.

    ``rule`` says how a reference is compared, such as "yes_no"; the service's default is "match".
    ``reviewer`` is who says so where the service asks
    for no key; with one, the key's subject is, and this is kept beside, as ``note`` is.
    """

    correct: bool | None
    reference: str | None
    cannot_tell: bool
    rule: str | Mapping[str, Any] | None
    reviewer: str | None
    note: str | None


class _Calls:
    """What is sent to one service, for both clients."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        deadline_seconds: float,
        tries: int,
        clock: Callable[[], float],
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._deadline_seconds, self._tries, self._clock = deadline_seconds, tries, clock

    def answer(
        self, image: bytes | Path, question: str, traceparent: str | None, options: Options
    ) -> Call:
        """Ask. The key lets the service give a try that was answered unheard the same answer."""
        file = image.read_bytes() if isinstance(image, Path) else image
        headers = {"idempotency-key": str(uuid4())}
        if traceparent is not None:
            headers["traceparent"] = traceparent
        form = {"question": question} | {name: _text(value) for name, value in options.items()}
        return self._call("/v1/answer", headers, data=form, files={"image": ("image", file)})

    def outcome(self, answer_id: str, word: Word) -> Call:
        """Tell what became of an answer."""
        kept = {name: value for name, value in word.items() if value not in (None, "")}
        said = [kept.get("correct") is not None, "reference" in kept, bool(kept.get("cannot_tell"))]
        if sum(said) != 1:
            raise ValueError("say one of correct, reference and cannot_tell")
        return self._call("/v1/outcomes", {}, json={"id": answer_id, **kept})

    def _call(self, path: str, headers: Mapping[str, str], **content: Any) -> Call:
        def request(seconds: float) -> httpx.Request:
            return httpx.Request(
                "POST",
                self.url + path,
                headers={**self._headers, **headers, "x-request-timeout": f"{seconds:.3f}"},
                extensions={"timeout": httpx.Timeout(seconds).as_dict()},
                **content,
            )

        return Call(
            request,
            url=self.url,
            deadline_seconds=self._deadline_seconds,
            tries=self._tries,
            clock=self._clock,
        )

    def read(self, response: httpx.Response) -> AnswerResponse:
        """The answer. Raises Unreachable when it is none."""
        try:
            return AnswerResponse.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable(
                f"{self.url} answered {response.status_code} without an answer; "
                "is it a vlm-gate service?"
            ) from error


class Client:
    """Blocking; may be shared between threads.

    Args:
        url: of the service.
        api_key: where the service asks for one.
        deadline_seconds: of one call, all its tries and pauses together.
        tries: most tries of one call; 429, 503 and broken connections are tried again.
        transport, sleep, clock: other than httpx's and time's.
    """

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        tries: int = TRIES,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = _Calls(url, api_key, deadline_seconds, tries, clock)
        self._http = httpx.Client(transport=transport)
        self._sleep = sleep

    def answer(
        self,
        image: bytes | Path,
        question: str,
        *,
        traceparent: str | None = None,
        **options: Unpack[Options],
    ) -> AnswerResponse:
        """Ask about an image: a file's bytes, or its path. Raises ClientError."""
        call = self._calls.answer(image, question, traceparent, options)
        return self._calls.read(self._send(call))

    def outcome(self, answer_id: str, **word: Unpack[Word]) -> None:
        """Tell whether an answer was right, what the right one is, or that nobody can say.

        Raises ClientError.
        """
        self._send(self._calls.outcome(answer_id, word))

    def _send(self, call: Call) -> httpx.Response:
        while True:
            try:
                response = self._http.send(call.next())
                pause = call.judge(response)
                if pause is None:
                    return response
            except (httpx.TransportError, httpx.InvalidURL) as error:
                pause = call.judge_error(error)
            self._sleep(pause)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient:
    """The same on an event loop. The arguments are :class:`Client`'s."""

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        tries: int = TRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = _Calls(url, api_key, deadline_seconds, tries, clock)
        self._http = httpx.AsyncClient(transport=transport)
        self._sleep = sleep

    async def answer(
        self,
        image: bytes | Path,
        question: str,
        *,
        traceparent: str | None = None,
        **options: Unpack[Options],
    ) -> AnswerResponse:
        """Ask about an image: a file's bytes, or its path. Raises ClientError."""
        call = await asyncio.to_thread(self._calls.answer, image, question, traceparent, options)
        return self._calls.read(await self._send(call))

    async def outcome(self, answer_id: str, **word: Unpack[Word]) -> None:
        """Tell whether an answer was right, what the right one is, or that nobody can say.

        Raises ClientError.
        """
        await self._send(self._calls.outcome(answer_id, word))

    async def _send(self, call: Call) -> httpx.Response:
        while True:
            try:
                response = await self._http.send(call.next())
                pause = call.judge(response)
                if pause is None:
                    return response
            except (httpx.TransportError, httpx.InvalidURL) as error:
                pause = call.judge_error(error)
            await self._sleep(pause)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _text(value: Any) -> str:
    """A form field."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(dict(value)) if isinstance(value, Mapping) else str(value)
