"""JSON Web Tokens (RFC 7519), signed by an identity provider whose keys (JWKS) are known.

Only asymmetric signatures count. The key decides which algorithm verifies, never the token, and
keys that a token brings along (``jwk``, ``jku``, ``x5u``) are ignored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm

from probes.errors import NOT_UNDERSTOOD
from service.access.watched_file import WatchedFile

log = structlog.get_logger("service.access.tokens")
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
LEEWAY_SECONDS = 10
MAX_TOKEN_BYTES = 8192
MAX_JWKS_BYTES = 1 << 20
FRESH_SECONDS = 300
"""Age at which keys from a URL are fetched again."""
STALE_SECONDS = 3600
"""Age beyond which keys from a URL are no longer believed when they cannot be fetched."""
COOLDOWN_SECONDS = 30
"""Between two fetches, whatever tokens arrive."""
Keys = Mapping[str, jwt.PyJWK]


class JwksError(Exception):
    """The provider's keys are not available. The message names their source and the fix."""


class TokenRefused(Exception):
    """The token is not accepted. The message says why, without quoting it."""


class KeySource(Protocol):
    """Where the provider's keys come from."""

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of this id, if there is one. Raises JwksError."""


def parse_jwks(text: bytes) -> Keys:
    """The usable public keys by their ids. Raises JwksError when there is none."""
    try:
        listed = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JwksError(f"is no JWKS ({type(error).__name__})") from error
    if not isinstance(listed, list):
        raise JwksError("is no JWKS ('keys' is no list)")
    keys = {entry["kid"]: key for entry in listed if (key := _key(entry)) is not None}
    if not keys:
        raise JwksError(
            f"holds no key that can be used: each needs a kid and one of {', '.join(ALGORITHMS)}"
        )
    return keys


def _key(entry: Any) -> jwt.PyJWK | None:
    """The key of one entry; None for what is not for us, or not understood (RFC 7517, 5)."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(entry)
    except (jwt.PyJWTError, UnsupportedAlgorithm, *NOT_UNDERSTOOD):
        log.warning("jwks_key_ignored", kid=entry["kid"][:64])
        return None
    return key if key.algorithm_name in ALGORITHMS else None


class JwksFile:
    """Keys from a file, read again when it changes. Raises JwksError."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, _read_jwks, JwksError)

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """See KeySource."""
        return self._file.value().get(kid)


def _read_jwks(path: Path) -> Keys:
    try:
        return parse_jwks(path.read_bytes())
    except OSError as error:
        raise JwksError(f"{path}: cannot be read ({error.strerror})") from error
    except JwksError as error:
        raise JwksError(f"{path}: {error}") from error


class JwksUrl:
    """Keys from an https URL: fetched when first needed, when old, and when an id is unknown.

    Args:
        url: of the provider's JWKS.
        transport: of httpx; for tests.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._transport, self._clock = url, transport, clock
        self._keys: Keys = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """See KeySource."""
        if self._age() >= FRESH_SECONDS or kid not in self._keys:
            async with self._lock:
                if self._age() >= FRESH_SECONDS or kid not in self._keys:
                    await self._refresh()
        if self._age() >= STALE_SECONDS:
            raise JwksError(f"the keys of {self._url} cannot be had")
        return self._keys.get(kid)

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._clock() - self._fetched

    async def _refresh(self) -> None:
        if self._tried is not None and self._clock() - self._tried < COOLDOWN_SECONDS:
            return
        self._tried = self._clock()
        try:
            self._keys = parse_jwks(await self._fetch())
        except (httpx.HTTPError, JwksError, TimeoutError) as error:
            log.error("jwks_not_fetched", url=self._url, detail=f"{type(error).__name__}: {error}")
        else:
            self._fetched = self._clock()

    async def _fetch(self) -> bytes:
        """The document; redirects are not followed."""
        text = bytearray()
        client = httpx.AsyncClient(
            transport=self._transport, verify=ssl.create_default_context(), timeout=5.0
        )
        async with asyncio.timeout(10), client, client.stream("GET", self._url) as reply:
            if reply.status_code != 200:
                raise JwksError(f"answered {reply.status_code}")
            async for part in reply.aiter_bytes():
                text += part
                if len(text) > MAX_JWKS_BYTES:
                    raise JwksError(f"has more than {MAX_JWKS_BYTES} bytes")
        return bytes(text)


class Tokens:
    """Checks tokens.

    Args:
        source: of the provider's keys.
        issuer, audience: what ``iss`` and ``aud`` must say.
    """

    def __init__(self, source: KeySource, issuer: str, audience: str) -> None:
        self._source, self._issuer, self._audience = source, issuer, audience

    async def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a valid token. Raises TokenRefused, JwksError."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused(f"the token has more than {MAX_TOKEN_BYTES} bytes")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._source.find(kid) if isinstance(kid, str) else None
            if key is None:
                raise TokenRefused("the token is signed by no key that is known here")
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("the token has expired; get a new one") from error
        except jwt.InvalidAudienceError as error:
            raise TokenRefused("the token is for another service") from error
        except jwt.InvalidIssuerError as error:
            raise TokenRefused("the token is from another issuer") from error
        except (jwt.PyJWTError, *NOT_UNDERSTOOD) as error:
            raise TokenRefused("the token does not hold") from error


def subject_id(claims: Mapping[str, Any]) -> str:
    """A pseudonym for the token's subject."""
    who = f"{claims['iss']}\n{claims['sub']}"
    # JSON can write half of a surrogate pair; subjects that differ in one are two.
    return f"jwt-{hashlib.sha256(who.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
