"""Finds out who calls before any body is read, and refuses callers without the scope they need."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from fastapi import Request
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ConnectionScope

from service.access.authenticator import REALM, Authenticator, Caller
from service.access.key_file import KEY, Scope
from service.errors import Forbidden, Malformed, ServiceError
from service.http.problems import problem

OPEN_PATHS = frozenset(
    ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/metrics", "/docs", "/redoc",
     "/docs/oauth2-redirect", "/openapi.json")
)  # fmt: skip
_KEY_NAMES = {"key", "apikey", "xapikey", "token", "accesstoken", "idtoken", "jwt", "bearer",
              "auth", "authorization", "password", "secret"}  # fmt: skip
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]+\.eyJ[\w-]+\.")


class Authentication:
    """ASGI middleware: refuses keys in URLs, identifies the caller on all but open paths."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self.app = app
        self.authenticator = authenticator

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope["state"]
        try:
            if _holds_key(scope):
                raise Malformed(
                    "a key in a URL ends up in logs: this one must count as leaked, revoke it; "
                    "send keys as the header Authorization: Bearer <key>",
                    field="url",
                    kind="key_in_url",
                )
            if scope["path"] not in OPEN_PATHS:
                caller = await self.authenticator.identify(Request(scope))
                state["caller"] = caller
        except ServiceError as error:
            state["kind"] = error.kind
            await problem(error, state["id"])(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _holds_key(scope: ConnectionScope) -> bool:
    query: str = scope["query_string"].decode("latin-1")
    text = unquote_plus(unquote_plus(f"{scope['path']}?{query}"))
    names = (pair.partition("=")[0] for pair in re.split("[&;]", unquote_plus(query)))
    plain = {re.sub(r"[^a-z]", "", name.lower()) for name in names}
    return bool(KEY.search(text) or _JWT.search(text) or plain & _KEY_NAMES)


class ScopeNeeded(HTTPBearer):
    """A router's dependency, which OpenAPI shows as security: the caller must hold ``scope``."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(
            auto_error=False,
            scheme_name="key",
            description="an API key (vg_...) or a JWT; none is needed on a loopback address "
            "without keys",
        )
        self._needed: Scope = scope

    async def __call__(self, request: HTTPConnection) -> None:
        """Raises Forbidden."""
        caller: Caller = request.state.caller
        if self._needed not in caller.scopes:
            raise Forbidden(
                f"this needs the scope '{self._needed}'; use a key that has it",
                kind="scope_missing",
                challenge=f'{REALM}, error="insufficient_scope", scope="{self._needed}"',
            )
