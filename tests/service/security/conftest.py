"""Keys, and an identity provider with its signing keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from service.access.key_file import SCOPES, Scope, new_key, save_keys, utc_now

ISSUER, AUDIENCE = "https://id.example", "vlm-gate"


class Provider:
    """Signs tokens with one key, which its JWKS holds; and knows another, which it does not."""

    def __init__(self, folder: Path) -> None:
        self.known = ec.generate_private_key(ec.SECP256R1())
        self.other = ec.generate_private_key(ec.SECP256R1())
        self.jwks = folder / "jwks.json"
        self.document = {"keys": [self.public("k1")]}
        self.jwks.write_text(json.dumps(self.document))

    def public(self, kid: str, **changes: Any) -> dict[str, Any]:
        """The known key as a JWK."""
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.known.public_key()))
        return {**jwk, "kid": kid, "alg": "ES256", "use": "sig", **changes}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a good token with changes; ``...`` leaves one out."""
        now = int(time.time())
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "camera-3", "scope": "answer",
                "iat": now, "exp": now + 300}  # fmt: skip
        return {name: value for name, value in {**good, **changes}.items() if value is not ...}

    def token(
        self, headers: dict[str, Any] | None = None, key: Any = None, alg: str = "ES256", **changes
    ) -> str:
        """A token: a good one unless told otherwise."""
        signing = self.known if key is None else key
        claims = self.claims(**changes)
        return jwt.encode(claims, signing, algorithm=alg, headers={"kid": "k1", **(headers or {})})

    @property
    def settings(self) -> dict[str, Any]:
        """What makes the service accept its tokens."""
        return {"jwt_jwks": str(self.jwks), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def make_key(keys_file: Path) -> Callable[..., str]:
    """Write a file with one key, with all scopes unless told otherwise; gives the key."""

    def make(*scopes: Scope) -> str:
        whole, kept = new_key("line 3", scopes or SCOPES, utc_now())
        save_keys(keys_file, [kept])
        return whole

    return make


@pytest.fixture
def bearer() -> Callable[[str], dict[str, str]]:
    return lambda key: {"authorization": f"Bearer {key}"}
