"""Gives errors the OpenAI shape on the OpenAI routes, wherever they were raised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTES = ("/v1/chat/", "/v1/models")
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAIErrors:
    """ASGI middleware that rewrites problem documents as ``{"error": {...}}``.

    ``param`` names the field in the OpenAI shape. Routes leave the names in
    ``request.state.fields``, keyed by the gate's own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(ROUTES):
            await self.app(scope, receive, send)
            return
        started: Message | None = None
        held = b""

        async def rewrite(message: Message) -> None:
            nonlocal started, held
            if message["type"] == "http.response.start" and _is_problem(message):
                started = message
            elif started is None or message["type"] != "http.response.body":
                await send(message)
            else:
                held += message.get("body", b"")
                if not message.get("more_body", False):
                    body = error_body(json.loads(held), scope.get("state", {}).get("fields", {}))
                    content = json.dumps(body).encode()
                    headers = MutableHeaders(scope=started)
                    headers["content-type"] = "application/json"
                    headers["content-length"] = str(len(content))
                    await send(started)
                    await send({"type": "http.response.body", "body": content})

        await self.app(scope, receive, rewrite)


def _is_problem(message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return kind.startswith("application/problem+json")


def error_body(problem: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    """A problem document in the OpenAI shape.

    Args:
        problem: the RFC 9457 document.
        fields: the names of the gate's fields in the request.
    """
    field, detail, status = problem.get("field"), problem["detail"], problem["status"]
    param = None if field is None else fields.get(field, field)
    message = detail if param is None or param in detail else f"{param}: {detail}"
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = problem["type"].rpartition(":")[2]
    return {
        "error": {
            "message": message,
            "type": TYPES.get(status, kind),
            "param": param,
            "code": code,
        }
    }


def error_responses(statuses: Sequence[int]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of these errors."""
    told = {"type": "string"}
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": told,
            "type": told,
            "param": {"anyOf": [told, {"type": "null"}]},
            "code": told,
        },
    }
    schema = {"type": "object", "required": ["error"], "properties": {"error": error}}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": schema}},
        }
        for status in statuses
    }
