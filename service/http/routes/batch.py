"""``POST /v1/answers:batch``: one question a line in, one answer a line out, while it goes on."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from ulid import ULID

from service.errors import (
    Invalid,
    Overloaded,
    ServiceError,
    TooLarge,
    UnsupportedType,
)
from service.gate.gate import Gate
from service.http.batch_lines import Line, Lines
from service.http.body import check_headers, media_type, parse_ask
from service.http.idempotency import HEADER
from service.http.problems import problem_body, problem_responses
from service.http.routes.answer import admit
from service.observe.tracing import RequestSpan
from service.schemas.answer import AnswerRequest

log = structlog.get_logger("service.http.routes.batch")
router = APIRouter(tags=["answers"])
TYPES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")

_SCHEMA = {"type": "string", "description": "one JSON object a line"}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A line is the JSON body of /v1/answer: "
        + ", ".join(AnswerRequest.model_fields),
        "content": {kind: {"schema": _SCHEMA} for kind in TYPES},
    }
}


@router.post(
    "/v1/answers:batch",
    responses=problem_responses((415, 422, 503))
    | {200: {"content": {TYPES[0]: {"schema": _SCHEMA}}}},
    response_class=Response,
    openapi_extra=_REQUEST_BODY,
    summary="Answer many questions, sent as JSON Lines, after whoever asks a single one",
)
async def post_batch(request: Request) -> Response:
    """Each line out names its line in, in the same order: an answer, or a problem document."""
    check_headers(request.headers)
    kind = media_type(request.headers)
    if kind not in TYPES:
        raise UnsupportedType(
            f"the body's type {kind!r} is not read; send {TYPES[0]}",
            field="Content-Type",
            kind="unsupported_body",
        )
    if HEADER in request.headers:
        raise Invalid(
            "a batch is not kept under an 'Idempotency-Key'; leave it out, and after a break send "
            "the lines again that have no answer",
            field="Idempotency-Key",
            kind="not_supported",
        )
    gate: Gate = request.app.state.gate
    gate.check_ready()
    return _LinesOut(request, gate)


class _LinesOut(Response):
    """Writes the lines out. It reads on while a write waits, so no sender is locked out.

    Lines being worked on are bounded by ``batch_concurrency``, answers that wait for their reader
    by ``batch_lines``.
    """

    media_type = TYPES[0]

    def __init__(self, request: Request, gate: Gate) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._request, self._gate = request, gate
        self._slots: asyncio.Semaphore = request.app.state.batch_slots
        self._answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(group))
                while (answer := await self._answers.get()) is not None:
                    body = await answer
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                reader.cancel()
            await send({"type": "http.response.body", "body": b""})
        except* ClientDisconnect:
            pass  # nobody is there to read; what was not begun is not asked

    async def _read(self, group: asyncio.TaskGroup) -> None:
        settings, held = self._gate.settings, self._gate.held
        most, asked = settings.batch_lines, 0
        lines = Lines(self._request, held, settings.max_body_bytes, settings.deadline_seconds)
        async with aclosing(lines.read()) as coming:
            async for line in coming:
                asked += 1
                if asked > most:
                    line = replace(line, content=_too_many(most))
                task = await self._begin(group, line)
                self._answers.put_nowait(task)
                if asked > most:
                    break
        self._answers.put_nowait(None)
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        raise ClientDisconnect

    async def _begin(self, group: asyncio.TaskGroup, line: Line) -> asyncio.Task[bytes]:
        """Start on a line as soon as there is a place, and release what it holds at the end."""
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            self._gate.held.close(line.arrival)
            raise

        def ended(_: asyncio.Task[bytes]) -> None:
            self._slots.release()
            self._gate.held.close(line.arrival)

        task = group.create_task(self._line_out(line))
        task.add_done_callback(ended)
        return task

    async def _line_out(self, line: Line) -> bytes:
        """Make one line out: an answer or a problem. Only a fault of ours is logged."""
        request, span = self._as_request(line)
        state: dict[str, Any] = request.scope["state"]
        try:
            if isinstance(line.content, ServiceError):
                raise line.content
            await self._wait_for_room()
            answer, _ = await admit(request, parse_ask)
            told = answer.model_dump(mode="json")
        except Exception as error:
            if not isinstance(error, ServiceError):
                log.exception("failed", id=state["id"])
                error = ServiceError(
                    "the service failed; its operator finds why in the log under " + state["id"]
                )
            state["kind"] = error.kind
            request.app.state.telemetry.rejected.labels(error.kind).inc()
            told = problem_body(error, state["id"])
        finally:
            if span is not None:
                span.end(state, self._gate.bundle.model)
        return json.dumps({"line": line.number} | told, ensure_ascii=False).encode() + b"\n"

    def _as_request(self, line: Line) -> tuple[Request, RequestSpan | None]:
        """The line as a request of its own, by the same caller."""
        whole = self._request.scope
        span: RequestSpan | None = whole["state"].get("span")
        child = None if span is None else span.line(line.number)
        own = {"id": str(ULID()), "body": line.content, "arrival": line.arrival, "span": child}
        state = {**whole["state"], **own, "batch": True}
        headers = [(name, value) for name, value in whole["headers"] if name != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        return Request({**whole, "state": state, "headers": headers}), child

    async def _wait_for_room(self) -> None:
        """Let single questions go first. Raises Overloaded when they leave no room for long."""
        try:
            async with asyncio.timeout(self._gate.settings.deadline_seconds):
                await self._gate.admission.vacancy()
        except TimeoutError as error:
            seconds = self._gate.admission.retry_after()
            raise Overloaded(
                f"single questions left no room for this line; send it again in {seconds} s",
                kind="overloaded",
                retry_after=seconds,
            ) from error


def _too_many(most: int) -> ServiceError:
    return TooLarge(
        f"the batch has more than {most} lines; this one and those after it were not read: send "
        "them as another batch",
        field="body",
        kind="too_many_lines",
    )
