"""Headers that protect every response in a browser, and which web pages may read it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware import Middleware
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
_ON_DATA, _ON_PAGES = (
    (
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", policy.encode()),
    )
    for policy in (NOTHING, DOCS)
)
_OURS = frozenset(name for name, _ in _ON_DATA)


class ResponseHeaders:
    """ASGI middleware: adds the headers that every response carries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] not in _OURS]
                page = any(
                    name == b"content-type" and value.startswith(b"text/html")
                    for name, value in headers
                )
                message["headers"] = [*headers, *(_ON_PAGES if page else _ON_DATA)]
                if scope["app"].state.gate.leaving:  # the caller's next one goes elsewhere
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        await self.app(scope, receive, with_headers)


def cors(origins: Sequence[str]) -> list[Middleware]:
    """CORS for these origins. Without any, no page elsewhere may read a response."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["authorization", "content-type", "idempotency-key", "traceparent"],
            expose_headers=["retry-after", "x-request-id"],
        )
    ]
