"""``POST /answer``: a question about an image -> answer, risk, decision."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route

from probes.types import Missing
from service.errors import Malformed
from service.gate.arrival import Arrival
from service.gate.ask import Ask, Outcome
from service.gate.gate import Gate
from service.gate.stages import Stages
from service.http.authentication import ScopeNeeded
from service.http.body import parse_ask, read_body
from service.http.idempotency import once_per_key
from service.http.openapi import request_body
from service.http.problems import problem_responses
from service.http.translate import to_answer_response
from service.schemas.answer import AnswerForm, AnswerRequest, AnswerResponse, Timing

router = APIRouter(tags=["answers"])
PATHS = ("/v1/answer", "/answer")
TIMEOUT = "X-Request-Timeout"
"""The header that says how long a caller is willing to wait."""
Parse = Callable[[Request, Gate], Awaitable[Ask]]
"""Reads the body that lies in ``request.state.body`` as a question: (request, gate) to Ask."""

_REQUEST_BODY = request_body({"application/json": AnswerRequest, "multipart/form-data": AnswerForm})


@router.post(PATHS[1], include_in_schema=False)
@router.post(
    PATHS[0],
    response_model=AnswerResponse,
    responses=problem_responses((400, 413, 415, 422, 429, 503, 504)),
    openapi_extra=_REQUEST_BODY,
    summary="Answer a question about an image, with the risk that the answer is wrong",
)
async def post_answer(request: Request) -> Response:
    """All three decisions are a 200: accept, escalate (to a person), reject."""

    async def reply() -> Response:
        response, _ = await admit(request, parse_ask)
        return Response(response.model_dump_json(), media_type="application/json")

    return await once_per_key(request, reply)


def _direct(path: str) -> Route:
    """The busiest route, past what FastAPI does for every request: that took a fifth of its time.

    OpenAPI shows the same route with its dependency, in ``router``.
    """
    scope_needed = ScopeNeeded("answer")

    async def post_in_scope(request: Request) -> Response:
        request.scope["route"] = route  # its template is the metrics' label
        await scope_needed(request)
        return await post_answer(request)

    route = Route(path, post_in_scope, methods=["POST"], include_in_schema=False)
    return route


DIRECT = [_direct(path) for path in PATHS]


async def admit(request: Request, parse: Parse) -> tuple[AnswerResponse, Outcome]:
    """Admit a request and see it through, within its time limit. All routes that answer do this.

    Args:
        parse: parses the body once it is the request's turn.

    Raises:
        ServiceError: there is no answer, and why.
    """
    gate: Gate = request.app.state.gate
    request.state.stages = stages = Stages()
    gate.check_ready()
    seconds = _allowed_seconds(request.headers, gate.settings.deadline_seconds)
    gate.quota.spend(request.state.caller.id)
    try:
        async with asyncio.timeout(seconds):
            ask, outcome = await _serve_in_turn(request, parse, seconds)
    except TimeoutError as error:
        raise gate.deadline(seconds, stages) from error
    response = to_answer_response(
        outcome,
        request_id=request.state.id,
        bundle=ask.rules.bundle,
        mode=gate.settings.mode,
        timing=Timing(
            queue_seconds=stages.seconds["queue"] + outcome.generation.queue_seconds,
            generate_seconds=outcome.generation.generate_seconds,
            total_seconds=stages.total,
        ),
    )
    _count(request, ask, outcome)
    return response, outcome


async def _serve_in_turn(request: Request, parse: Parse, seconds: float) -> tuple[Ask, Outcome]:
    """Take a place, read the body, wait for the turn, parse, and let the gate run it."""
    gate: Gate = request.app.state.gate
    stages: Stages = request.state.stages
    admission = gate.admission
    with (
        _arrival(request, gate) as arrival,
        admission.place(
            request.state.caller.id,
            deadline=admission.clock() + seconds,
            batch=getattr(request.state, "batch", False),
            arrival=arrival,
        ) as place,
    ):
        request.state.body = await read_body(request, gate.settings.max_body_bytes, arrival)
        async with admission.turn(place) as waited:
            stages.add("queue", waited)
            with stages.timed("decode"):
                ask = await parse(request, gate)
            gate.held.shrink(arrival, arrival.size)
            return ask, await gate.run_and_record(ask, stages, request.state.id)


def _allowed_seconds(headers: Headers, longest: float) -> float:
    """The caller's time limit in seconds, from the header; without one, or at most, ``longest``.

    Raises Malformed unless it is a number above 0.
    """
    text = headers.get(TIMEOUT)
    if text is None:
        return longest
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise Malformed(
            f"{TIMEOUT} is not a time; send seconds above 0, such as 2.5",
            field=TIMEOUT,
            kind="invalid_header",
        )
    return min(seconds, longest)


def _arrival(request: Request, gate: Gate) -> AbstractContextManager[Arrival]:
    """What counts the body's bytes: left by the step that read the body before, or new."""
    held: Arrival | None = getattr(request.state, "arrival", None)
    return gate.held.body(request.state.caller.id) if held is None else nullcontext(held)


def _count(request: Request, ask: Ask, outcome: Outcome) -> None:
    """Leave the outcome to the metrics, the trace and the request log."""
    state = request.state
    request.app.state.telemetry.observe(
        outcome,
        state.stages,
        request.app.state.gate.settings.mode,
        metadata=ask.metadata,
        trace_id=getattr(state, "trace_id", None),
    )
    score = outcome.assessment.score
    state.outcome = outcome
    state.told = {
        "decision": outcome.decision.decision,
        "reason": outcome.decision.reason,
        "risk": None if isinstance(score, Missing) else round(score, 6),
    }
