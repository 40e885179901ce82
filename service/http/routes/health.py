"""Liveness and readiness, for Kubernetes and under the Open Inference Protocol's names."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service.gate.gate import Gate
from service.http.problems import problem_responses

router = APIRouter(
    tags=["health"],
    responses={503: {"description": "No"}, **problem_responses((400,))},
)


@router.get("/healthz", summary="200 while the process and its engine work")
@router.get("/v2/health/live", include_in_schema=False)
async def live(request: Request) -> Response:
    """503 means that only a restart helps."""
    gate: Gate = request.app.state.gate
    healthy = gate.engine.healthy
    return JSONResponse({"live": healthy}, 200 if healthy else 503)


@router.get("/readyz", summary="200 once the parity self-test has passed, until draining")
@router.get("/v2/health/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """503 says why not."""
    gate: Gate = request.app.state.gate
    state = gate.state if gate.engine.healthy else "failed"
    told = {
        "draining": "shutting down",
        "ready": "",
        "records_unavailable": "answers must be recorded, and cannot be",
        "decoders_unavailable": "no process that decodes images shows that it works",
    }
    why = told.get(state, gate.why or "the engine has failed")
    body: dict[str, Any] = {"ready": state == "ready", "state": state} | (
        {"detail": why} if why else {}
    )
    if gate.record_keeping is not None:
        body["records"] = gate.record_keeping.health
    return JSONResponse(body, 200 if state == "ready" else 503)
