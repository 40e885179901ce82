"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.gate.gate import Gate

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The text format, or OpenMetrics where that is asked for."""
    gate: Gate = request.app.state.gate
    body, content_type = gate.telemetry.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})
