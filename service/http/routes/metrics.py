"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.observe.telemetry import Telemetry

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The text format, or OpenMetrics where that is asked for."""
    telemetry: Telemetry = request.app.state.telemetry
    body, content_type = telemetry.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})
