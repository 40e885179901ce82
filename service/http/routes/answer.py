"""``POST /answer``: a question about an image -> answer, risk, decision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from probes.types import Missing
from service.gate.arrival import Arrival
from service.gate.gate import Gate
from service.gate.pipeline import Ask, Outcome
from service.http.body import parse_ask, read_body
from service.http.idempotency import once
from service.http.problems import problem_responses
from service.http.time_limit import time_limit
from service.observe.telemetry import Stages
from service.schemas.answer import AnswerForm, AnswerRequest, AnswerResponse, Timing

router = APIRouter(tags=["answers"])
PATHS = ("/v1/answer", "/answer")
Parse = Callable[[Request, Gate], Awaitable[Ask]]
"""Reads the body that lies in ``request.state.body`` as a question: (request, gate) to Ask."""

_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": AnswerRequest.model_json_schema()},
            "multipart/form-data": {"schema": AnswerForm.model_json_schema()},
        },
    }
}


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
        response, _ = await give_answer(request, parse_ask)
        return Response(response.model_dump_json(), media_type="application/json")

    return await once(request, reply)


async def give_answer(request: Request, parse: Parse) -> tuple[AnswerResponse, Outcome]:
    """Read a request with ``parse`` and answer it: what every route that answers does.

    Raises:
        ServiceError: there is no answer, and why.
    """
    gate: Gate = request.app.state.gate
    request.state.stages = stages = Stages()
    gate.check_ready()
    seconds = time_limit(request.headers, gate.settings.deadline_seconds)
    caller = request.state.caller.id
    batch = getattr(request.state, "batch", False)
    gate.quota.spend(caller)
    admission = gate.admission
    try:
        async with asyncio.timeout(seconds):
            with _arrival(request, gate) as arrival:
                deadline = admission.clock() + seconds
                with admission.place(
                    caller, deadline=deadline, batch=batch, arrival=arrival
                ) as place:
                    limit = gate.settings.max_body_bytes
                    request.state.body = await read_body(request, limit, arrival)
                    async with admission.turn(place) as waited:
                        stages.add("queue", waited)
                        with stages.timed("decode"):
                            ask = await parse(request, gate)
                        gate.held.shrink(arrival, arrival.size)
                        outcome = await gate.answer(ask, stages, request.state.id)
    except TimeoutError as error:
        raise gate.deadline(seconds, stages) from error
    mode = gate.settings.mode
    response = AnswerResponse.from_outcome(
        outcome,
        request_id=request.state.id,
        bundle=ask.rules.bundle,
        mode=mode,
        timing=Timing(
            queue_seconds=waited + outcome.generation.queue_seconds,
            generate_seconds=outcome.generation.generate_seconds,
            total_seconds=stages.total,
        ),
    )
    gate.telemetry.observe(
        outcome,
        stages,
        mode,
        metadata=ask.metadata,
        trace_id=getattr(request.state, "trace_id", None),
    )
    request.state.outcome = outcome
    request.state.told = _log_fields(outcome)
    return response, outcome


def _arrival(request: Request, gate: Gate) -> AbstractContextManager[Arrival]:
    """The count of the body's bytes: that of who has read it before, or one of its own."""
    held: Arrival | None = getattr(request.state, "arrival", None)
    return gate.held.body(request.state.caller.id) if held is None else nullcontext(held)


def _log_fields(outcome: Outcome) -> dict[str, Any]:
    score = outcome.assessment.score
    return {
        "decision": outcome.decision.decision,
        "reason": outcome.decision.reason,
        "risk": None if isinstance(score, Missing) else round(score, 6),
    }
