"""Gives each request an id, counts it, logs it, and lets no exception out."""

from __future__ import annotations

from asyncio import CancelledError
from random import Random
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULIDGenerator

from service.errors import ServiceError
from service.http.problems import problem
from service.observe.telemetry import Telemetry

# The kernel's own random numbers cost a call each; these are seeded by them.
_numbers = Random()
_ids = ULIDGenerator(randomness=lambda _: _numbers.randbytes(10))
log = structlog.get_logger("service.http.request_log")
CLIENT_GONE = "client_gone"
"""Why a request was given up that nobody waits for any more: who sent it has hung up."""
GONE_STATUS = 499
"""As nginx counts them; it is never sent."""


class RequestLog:
    """ASGI middleware around everything that may fail: one id, count and log line per request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        state = scope.setdefault("state", {})
        state["id"] = str(_ids.generate())
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", state["id"].encode())]
            await send(message)

        try:
            await self.app(scope, receive, note)
        except CancelledError as error:
            if CLIENT_GONE not in error.args:
                raise
            state["kind"] = CLIENT_GONE
            status = status or GONE_STATUS
        except Exception:
            # A bug of ours: told to the log, never to the caller.
            log.exception("failed", id=state["id"])
            state["kind"] = "internal_error"
            if status == 0:
                told = ServiceError(
                    f"the service failed; its operator finds why in the log under {state['id']}"
                )
                await problem(told, state["id"])(scope, receive, note)
        _count(scope, status)
        log.info(
            "request",
            id=state["id"],
            route=_route(scope),
            code=status,
            seconds=round(perf_counter() - started, 6),
            **({"caller": state["caller"].id} if "caller" in state else {}),
            **state.get("told", {}),
            **({"kind": state["kind"]} if "kind" in state else {}),
        )


def _route(scope: Scope) -> str:
    """The route's template, never the path as sent: a label must have few values."""
    return getattr(scope.get("route"), "path", "unmatched")


def _count(scope: Scope, status: int) -> None:
    telemetry: Telemetry | None = getattr(scope["app"].state, "telemetry", None)
    if telemetry is None:
        return
    telemetry.requests.labels(_route(scope), str(status)).inc()
    if "kind" in scope["state"]:
        telemetry.rejected.labels(scope["state"]["kind"]).inc()
