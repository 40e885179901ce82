"""What browsers are told about every response, and which web pages may read them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTHING = "default-src 'none'; frame-ancestors 'none'"
# The pages of /docs and /redoc bring their viewer from where FastAPI takes it.
DOCS = (
    "default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src data: https://fastapi.tiangolo.com "
    "https://cdn.redoc.ly; worker-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class ResponseHeaders:
    """ASGI middleware, the outermost: headers that every response carries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                page = headers.get("content-type", "").startswith("text/html")
                headers["x-content-type-options"] = "nosniff"
                headers["cache-control"] = "no-store"
                headers["referrer-policy"] = "no-referrer"
                headers["content-security-policy"] = DOCS if page else NOTHING
                if scope["app"].state.gate.leaving:
                    headers["connection"] = "close"  # the caller's next one goes elsewhere
            await send(message)

        await self.app(scope, receive, with_headers)


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """CORS for these origins; without any, no page elsewhere may read a response."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["authorization", "content-type", "idempotency-key", "traceparent"],
            expose_headers=["retry-after", "x-request-id"],
        )
