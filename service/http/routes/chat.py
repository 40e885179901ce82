"""``POST /v1/chat/completions`` and ``GET /v1/models``: for the official ``openai`` client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import structlog
from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response, StreamingResponse

from probes.types import Generation
from service.errors import Invalid, NotFound, ServiceError, UnsupportedType
from service.gate.ask import Ask, Outcome
from service.gate.gate import Gate
from service.http.body import ask_of, media_type, take_body
from service.http.idempotency import HEADER, once_per_key
from service.http.json_body import read_model
from service.http.openai_errors import error_body, error_responses
from service.http.openapi import request_body
from service.http.problems import problem_body
from service.http.routes.answer import admit
from service.http.translate_chat import Chunks, locate, to_answer_request, to_completion
from service.schemas.answer import AnswerRequest, AnswerResponse
from service.schemas.chat import ChatRequest, Completion

log = structlog.get_logger("service.http.routes.chat")
router = APIRouter(tags=["openai"])
STARTED = int(time.time())
"""When a model was ``created``: as far as this service knows, when it began to serve it."""
_EVENTS = "text/event-stream"
_NO_CACHE = {"cache-control": "no-cache"}


@router.get("/v1/models", summary="The one model that is served")
async def get_models(request: Request) -> Response:
    """In the OpenAI shape."""
    return JSONResponse({"object": "list", "data": [_model(request.app.state.gate)]})


@router.get(
    "/v1/models/{name:path}",
    responses=error_responses((404,)),
    summary="The model that is served, by its name",
)
async def get_model(name: str, request: Request) -> Response:
    """In the OpenAI shape; 404 for another name."""
    gate: Gate = request.app.state.gate
    _check_model(name, gate)
    return JSONResponse(_model(gate))


@router.post(
    "/v1/chat/completions",
    response_model=Completion,
    responses=error_responses((400, 404, 413, 415, 422, 503, 504))
    | {200: {"content": {"text/event-stream": {}}}},
    openapi_extra=request_body({"application/json": ChatRequest}),
    summary="The same as /v1/answer in the OpenAI shape, with a `reliability` object beside it",
)
async def post_completion(request: Request) -> Response:
    """One user message with one text and one image; what the gate cannot do is refused."""
    return await once_per_key(request, _Completion(request).reply)


class _Completion:
    """One completion under way."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._gate: Gate = request.app.state.gate
        self._stream = False
        self._bundle = self._gate.bundle
        self._generated: asyncio.Future[Generation] = asyncio.Future()
        # A stream that is kept under a key is kept whole.
        self._hold = self._gate.settings.stream_hold or HEADER in request.headers

    async def reply(self) -> Response:
        """The response. A stream that need not be held begins as soon as there is an answer."""
        answering = asyncio.create_task(admit(self._request, self._parse))
        either: set[asyncio.Future[Any]] = {answering, self._generated}
        _end_with_request(answering)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            return StreamingResponse(self._early(answering), headers=_NO_CACHE, media_type=_EVENTS)
        answer, outcome = await answering
        if self._stream:
            events = b"".join(self._events(answer, outcome))
            return Response(events, headers=_NO_CACHE, media_type=_EVENTS)
        ended = outcome.generation.finish_reason
        body = to_completion(answer, ended, int(time.time()))
        return Response(body.model_dump_json(), media_type="application/json")

    async def _parse(self, request: Request, gate: Gate) -> Ask:
        kind = media_type(request.headers)
        if kind != "application/json":
            raise UnsupportedType(
                f"the body's type {kind!r} is not read; send application/json",
                field="Content-Type",
                kind="unsupported_body",
            )
        self._stream, own = await gate.parse(len(request.state.body), self._read)
        ask = await ask_of(own, gate, request.state.caller.id)
        self._bundle = ask.rules.bundle
        if self._stream and not self._hold:
            return replace(ask, on_generation=self._generated.set_result)
        return ask

    def _read(self) -> tuple[bool, AnswerRequest]:
        """Whether a stream is asked for, and the request in the gate's own shape."""
        try:
            asked = read_model(ChatRequest, take_body(self._request))
            _check_model(asked.model, self._gate)
            question, image = locate(asked)
            self._request.state.fields = {"question": question.field, "image": image.field}
            return bool(asked.stream), to_answer_request(asked, question.value, image.value)
        except ValidationError as error:
            raise Invalid.from_validation(error) from error

    def _events(self, answer: AnswerResponse, outcome: Outcome) -> list[bytes]:
        chunks = Chunks(answer.id, answer.model.name, answer.bundle, int(time.time()))
        told = [*chunks.text(answer.answer), chunks.last(answer, outcome.generation.finish_reason)]
        return [*map(_event, told), b"data: [DONE]\n\n"]

    async def _early(
        self, answering: asyncio.Task[tuple[AnswerResponse, Outcome]]
    ) -> AsyncIterator[bytes]:
        """Send the answer now, the decision once it is known. An error is the last event."""
        bundle = self._bundle
        request_id = self._request.state.id
        chunks = Chunks(request_id, bundle.model.name, bundle.id, int(time.time()))
        for chunk in chunks.text(self._generated.result().answer):
            yield _event(chunk)
        try:
            answer, outcome = await answering
        except ServiceError as error:
            self._request.state.kind = error.kind
            yield _event(error_body(problem_body(error, request_id), {}))
        except Exception:
            # The status is sent; the request log could only cut the stream off.
            log.exception("failed", id=request_id)
            self._request.state.kind = "internal_error"
            told = ServiceError("the service failed after its answer; do not use the answer")
            yield _event(error_body(problem_body(told, request_id), {}))
        else:
            yield _event(chunks.last(answer, outcome.generation.finish_reason))
            yield b"data: [DONE]\n\n"


def _end_with_request(answering: asyncio.Task[Any]) -> None:
    """Cancel the work when the request ends before it: the caller has hung up."""
    request = asyncio.current_task()
    assert request is not None
    request.add_done_callback(lambda _: answering.cancel())
    answering.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def _check_model(name: str, gate: Gate) -> None:
    served = gate.bundle.model.name
    if name != served:
        raise NotFound(
            f"the model {name[:100]!r} is not served here; send 'model': {served!r}",
            field="model",
            kind="model_not_found",
        )


def _model(gate: Gate) -> dict[str, Any]:
    name = gate.bundle.model.name
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "vlm-gate"}
