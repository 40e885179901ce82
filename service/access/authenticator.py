"""Identifies callers, and says what they may do.

The service is open only on a loopback address without keys, or if the operator says so. Otherwise
a caller needs a key or a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Request

from service.access.key_file import (
    SCOPES,
    KeyFileError,
    KeyRing,
    Scope,
    load_keys,
    utc_now,
)
from service.access.tokens import (
    JwksError,
    JwksFile,
    JwksUrl,
    TokenRefused,
    Tokens,
    subject_id,
)
from service.access.watched_file import WatchedFile
from service.errors import Forbidden, Unauthorized, Unavailable
from service.settings import PREFIX, Settings, SettingsError, is_loopback

REALM = 'Bearer realm="vlm-gate"'
"""Begins each ``WWW-Authenticate``."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller. ``id`` is a key's id, ``jwt-`` and a hash, or ``anonymous``; it is no secret.

    ``owner`` is the id of the first key that the same person holds.
    """

    id: str
    scopes: frozenset[Scope]
    owner: str | None = None


ANONYMOUS = Caller("anonymous", frozenset(SCOPES))


class Authenticator:
    """Finds the caller in a request's headers.

    Args:
        keys: the file of API keys, if there is one.
        tokens: checks JWTs, if they are accepted.
        trusted_front: open, because something in front decides who may call.
        origins: web pages that may call (CORS).
    """

    def __init__(
        self,
        keys: WatchedFile[KeyRing] | None = None,
        tokens: Tokens | None = None,
        *,
        trusted_front: bool = False,
        origins: tuple[str, ...] = (),
    ) -> None:
        self._keys, self._tokens = keys, tokens
        self._trusted_front, self._origins = trusted_front, origins

    @classmethod
    def from_settings(cls, settings: Settings) -> Authenticator:
        """Read the keys that the settings name. Raises SettingsError if that fails."""
        keys, tokens = None, None
        try:
            if settings.api_keys_file is not None:
                keys = WatchedFile(settings.api_keys_file, load_keys, KeyFileError)
                if not keys.value().active(utc_now()) and settings.jwt_jwks is None:
                    raise KeyFileError(
                        f"{settings.api_keys_file}: holds no active key; make one with "
                        "vlm-gate keys create"
                    )
            if settings.jwt_jwks is not None:
                where = settings.jwt_jwks
                remote = where.startswith("https://")
                source = JwksUrl(where) if remote else JwksFile(Path(where))
                assert settings.jwt_issuer is not None
                assert settings.jwt_audience is not None
                tokens = Tokens(source, settings.jwt_issuer, settings.jwt_audience)
        except KeyFileError as error:
            raise SettingsError(f"{PREFIX}API_KEYS_FILE: {error}") from error
        except JwksError as error:
            raise SettingsError(f"{PREFIX}JWT_JWKS: {error}") from error
        front = settings.allow_unauthenticated
        return cls(keys, tokens, trusted_front=front, origins=settings.cors_origins)

    @property
    def open(self) -> bool:
        """Whether anybody may call."""
        return self._keys is None and self._tokens is None

    async def identify(self, request: Request) -> Caller:
        """Who sent the request. Raises Unauthorized, Forbidden, Unavailable."""
        if self.open:
            if not self._trusted_front:
                _refuse_web_pages(request, self._origins)
            return ANONYMOUS
        sent = _bearer_of(request.headers.getlist("authorization"))
        if self._keys is not None and sent.startswith("vg_"):
            ring = self._keys.value()
            key = ring.find(sent, utc_now())
            if key is None:
                raise _unauthorized("the key is unknown, expired or revoked; ask for a new one")
            return Caller(key.id, frozenset(key.scopes), ring.owner(key))
        if self._tokens is None:
            raise _unauthorized("this is no key of this service; keys begin with vg_")
        try:
            claims = await self._tokens.verify(sent)
        except TokenRefused as error:
            raise _unauthorized(str(error)) from error
        except JwksError as error:
            raise Unavailable(
                "tokens cannot be checked now: the provider's keys cannot be had; try again",
                kind="jwks_unavailable",
                retry_after=30,
            ) from error
        granted = claims.get("scope", "")
        words = granted.split() if isinstance(granted, str) else []
        return Caller(subject_id(claims), frozenset(s for s in SCOPES if s in words))


def _bearer_of(headers: list[str]) -> str:
    if not headers:
        raise Unauthorized(
            "no key came with the request; send it as the header Authorization: Bearer <key>",
            kind="no_key",
            challenge=REALM,
        )
    scheme, _, sent = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not sent or sent != sent.strip():
        raise _unauthorized("the header must read, once, Authorization: Bearer <key>")
    return sent


def _unauthorized(detail: str) -> Unauthorized:
    return Unauthorized(detail, kind="bad_key", challenge=f'{REALM}, error="invalid_token"')


def _refuse_web_pages(request: Request, origins: tuple[str, ...]) -> None:
    """Refuse pages in this machine's browser: open on loopback means open to its programs alone.

    A page elsewhere can send to 127.0.0.1 and, if it rebinds its name, read from there. But then
    the browser sends its origin, or its name as the host.
    """
    origin = request.headers.get("origin")
    if origin not in (None, *origins) and not _is_local(origin or ""):
        raise Forbidden(
            f"a web page elsewhere may not call this; {PREFIX}CORS_ORIGINS names those that may",
            kind="foreign_origin",
        )
    if not _is_local(f"//{request.headers.get('host', '')}"):
        raise Forbidden(
            "without keys this answers only to this machine's own names; call it as 127.0.0.1, "
            f"or set {PREFIX}API_KEYS_FILE (or {PREFIX}ALLOW_UNAUTHENTICATED behind a proxy)",
            kind="foreign_host",
        )


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=64)
def _is_local(url: str) -> bool:
    """Loopback addresses, and names that no public DNS holds: without a dot, or .localhost."""
    host = _host_in(url)
    if is_loopback(host) or host.endswith(".localhost"):
        return True
    return bool(host) and "." not in host and ":" not in host
