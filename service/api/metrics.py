"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.gate import Gate

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The text format."""
    gate: Gate = request.app.state.gate
    return Response(gate.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
