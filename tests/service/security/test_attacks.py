"""Attacks over HTTP: each gets the status and the problem stated here, and the service goes on."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from service.access.key_file import new_key, utc_now

pytestmark = pytest.mark.anyio


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(provider: Any, alg: str) -> str:
    """A token without a signature."""
    head = b64(json.dumps({"alg": alg, "kid": "k1"}).encode())
    return f"{head}.{b64(json.dumps(provider.claims()).encode())}."


def confused(provider: Any) -> str:
    """The public key, which everybody has, taken as the secret of an HMAC."""
    pem = provider.known.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
    text = f"{head}.{b64(json.dumps(provider.claims()).encode())}"
    return f"{text}.{b64(hmac.digest(pem, text.encode(), hashlib.sha256))}"


def altered(provider: Any) -> str:
    """Another scope under a good signature."""
    head, _, signature = provider.token().split(".")
    return f"{head}.{b64(json.dumps(provider.claims(scope='admin')).encode())}.{signature}"


def own_key(provider: Any) -> str:
    """Signed by a key that the token brings along."""
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(provider.other.public_key()))
    return provider.token({"jwk": jwk}, provider.other)


TOKENS: dict[str, Callable[[Any], str]] = {
    "expired token": lambda p: p.token(exp=int(time.time()) - 60),
    "token not valid yet": lambda p: p.token(nbf=int(time.time()) + 600),
    "token issued in the future": lambda p: p.token(iat=int(time.time()) + 600),
    "token of another issuer": lambda p: p.token(iss="https://evil.example"),
    "token for another audience": lambda p: p.token(aud="payroll"),
    "token without an end": lambda p: p.token(exp=...),
    "token without an audience": lambda p: p.token(aud=...),
    "token without a subject": lambda p: p.token(sub=...),
    "token without an issuer": lambda p: p.token(iss=...),
    "token signed by another key": lambda p: p.token(key=p.other),
    "token of an unknown key id": lambda p: p.token({"kid": "../../dev/null"}),
    "token with alg none": lambda p: unsigned(p, "none"),
    "token with alg NONE": lambda p: unsigned(p, "NoNe"),
    "token without a signature": lambda p: unsigned(p, "ES256"),
    "public key as HMAC secret": confused,
    "token altered after signing": altered,
    "token that brings its own key (jwk)": own_key,
    "token that names its own JWKS (jku)": lambda p: p.token(
        {"jku": "https://evil.example/k", "kid": "evil"}, p.other
    ),
    "token with an unknown critical header": lambda p: p.token({"crit": ["x"], "x": 1}),
    "token of 20 kB": lambda p: p.token(padding="a" * 20_000),
    "token whose header is a nesting bomb": lambda p: b64(b"[" * 5_000) + ".e30.e30",
    "something that is no token": lambda p: "a.b.c",
    "key that was never made": lambda p: new_key("x", ["answer"], utc_now())[0],
    "key with the right id and another secret": lambda p: p.key[:16] + "A" * 43,
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_attack_gets_a_401(serve, png, provider, make_key, keys_file, bearer, name):
    provider.key = make_key()
    sent = TOKENS[name](provider)
    asked: dict[str, Any] = {"data": {"question": "Is it?"}, "files": {"image": png}}
    async with serve(api_keys_file=keys_file, **provider.settings) as client:
        reply = await client.post("/v1/answer", headers=bearer(sent), **asked)
        good = await client.post("/v1/answer", headers=bearer(provider.token()), **asked)
    assert reply.status_code == 401
    assert reply.json()["type"] == "urn:vlm-gate:problem:bad_key"
    assert reply.headers["www-authenticate"] == 'Bearer realm="vlm-gate", error="invalid_token"'
    assert sent not in reply.text
    assert good.status_code == 200


KEY = "vg_0123456789ab_" + "A" * 43
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
IN_URL = {
    "key as a parameter": f"/v1/policy?api_key={KEY}",
    "any password as a parameter": "/v1/policy?password=hunter2",
    "token as a parameter": "/v1/policy?access_token=abc",
    "key under a harmless name": f"/v1/policy?line={KEY}",
    "token under a harmless name": f"/v1/policy?line={JWT}",
    "key as a path": f"/v1/{KEY}/policy",
    "key encoded": "/v1/policy?line=" + "".join(f"%{ord(c):02x}" for c in KEY),
    "key encoded twice": "/v1/policy?line=%2576g_" + KEY[3:],
    "parameter's name encoded": "/v1/policy?%61pi%5fkey=abc",
    "parameter after a semicolon": "/v1/policy?a=1;api_key=abc",
    "key on an open path": f"/metrics?x={KEY}",
    "key to a path that is not there": f"/nothing?X-Api-Key={KEY}",
}


@pytest.mark.parametrize("name", IN_URL)
async def test_a_key_in_the_url_is_refused_although_a_good_one_is_sent(
    serve, make_key, keys_file, bearer, name
):
    key = make_key()
    async with serve(api_keys_file=keys_file) as client:
        reply = await client.get(IN_URL[name], headers=bearer(key))
        good = await client.get("/v1/policy", headers=bearer(key))
    assert reply.status_code == 400
    assert reply.json()["type"] == "urn:vlm-gate:problem:key_in_url"
    assert "A" * 43 not in reply.text
    assert "hunter2" not in reply.text
    assert good.status_code == 200


async def test_a_url_full_of_half_tokens_costs_nothing(serve):
    """Searching it for keys must not take time that grows with the square of its length."""
    async with serve() as client:
        began = time.process_time()
        reply = await client.get("/metrics?line=" + "eyJ" * 20_000)
        spent = time.process_time() - began
    assert reply.status_code == 200
    assert spent < 1


async def test_harmless_parameters_are_no_keys(serve):
    async with serve() as client:
        reply = await client.get("/v1/policy?line=3&page_token=7&monkey=1")
    assert reply.status_code == 200


def headers(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    return list(pairs)


HEADERS: dict[str, tuple[Callable[[str], list[tuple[str, str]]], int, str]] = {
    "no Authorization": (lambda k: [], 401, "no_key"),
    "empty Authorization": (lambda k: headers(("authorization", "")), 401, "bad_key"),
    "Basic": (lambda k: headers(("authorization", f"Basic {k}")), 401, "bad_key"),
    "key without its scheme": (lambda k: headers(("authorization", k)), 401, "bad_key"),
    "two Authorization headers, the good one last": (
        lambda k: headers(("authorization", "Bearer x"), ("authorization", f"Bearer {k}")),
        401,
        "bad_key",
    ),
    "two Authorization headers, the good one first": (
        lambda k: headers(("authorization", f"Bearer {k}"), ("authorization", "Bearer x")),
        401,
        "bad_key",
    ),
    "two keys in one header": (
        lambda k: headers(("authorization", f"Bearer x, Bearer {k}")),
        401,
        "bad_key",
    ),
    "blanks around the key": (lambda k: headers(("authorization", f"Bearer  {k}")), 401, "bad_key"),
    "NUL after the key": (lambda k: headers(("authorization", f"Bearer {k}\0")), 401, "bad_key"),
    "key in a cookie": (lambda k: headers(("cookie", f"authorization=Bearer {k}")), 401, "no_key"),
    "claim to come from this machine": (
        lambda k: headers(("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")),
        401,
        "no_key",
    ),
    "claim to be another path": (
        lambda k: headers(("x-original-url", "/metrics"), ("x-rewrite-url", "/metrics")),
        401,
        "no_key",
    ),
    "claim to be another method": (
        lambda k: headers(("x-http-method-override", "OPTIONS")),
        401,
        "no_key",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_header_trick_opens_nothing(serve, make_key, keys_file, name):
    made, status, kind = HEADERS[name]
    key = make_key()
    async with serve(api_keys_file=keys_file) as client:
        reply = await client.get("/v1/policy", headers=made(key))
    assert (reply.status_code, reply.json()["type"]) == (status, f"urn:vlm-gate:problem:{kind}")


PATHS = {
    "dots to an open path": "/metrics/../v1/policy",
    "dots from an open path": "/v1/policy/../../metrics",
    "two slashes": "//v1/policy",
    "two slashes, open path": "//metrics",
    "encoded slash": "/metrics%2f..%2fv1/policy",
    "encoded dots": "/docs/%2e%2e/v1/policy",
    "upper case": "/V1/POLICY",
    "open path with a parameter in it": "/metrics;/v1/policy",
    "NUL": "/metrics%00/v1/policy",
    "trailing slash": "/v1/policy/",
    "line break": "/v1/policy%0d%0aX: y",
}


@pytest.mark.parametrize("name", PATHS)
async def test_a_path_trick_opens_nothing(engine, bundled, make_key, keys_file, name):
    """Sent as it stands: an HTTP client would tidy it. What is not exactly open needs a key."""
    from urllib.parse import unquote

    from service.app import create_app
    from service.settings import Settings

    make_key()
    app = create_app(Settings(engine="fake", api_keys_file=keys_file), engine, bundled())
    path, sent = PATHS[name], []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
             "scheme": "http", "path": unquote(path), "raw_path": path.encode(),
             "query_string": b"", "headers": [(b"host", b"gate")], "server": ("gate", 80),
             "client": ("203.0.113.9", 1), "root_path": ""}  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 401
    assert not any(b"\n" in value for _, value in sent[0]["headers"])


WEB_PAGES = {
    "form of a page elsewhere": {"origin": "https://evil.example", "host": "127.0.0.1:8080"},
    "sandboxed frame": {"origin": "null", "host": "127.0.0.1:8080"},
    "page whose name was rebound to 127.0.0.1": {"host": "evil.example:8080"},
    "rebound page that sends": {"origin": "http://evil.example", "host": "evil.example"},
    "name that looks local": {"host": "localhost.evil.example"},
    "address that looks local": {"host": "127.0.0.1.evil.example"},
    "private address as a host": {"host": "192.168.0.5"},
    "no host": {"host": ""},
    "host that cannot be read": {"host": "[::1"},
    "origin that cannot be read": {"origin": "http://[::1", "host": "127.0.0.1"},
}


@pytest.mark.parametrize("name", WEB_PAGES)
async def test_open_on_loopback_is_closed_to_web_pages(serve, png, name):
    async with serve() as client:
        reply = await client.post(
            "/v1/answer",
            data={"question": "Is it?"},
            files={"image": png},
            headers=WEB_PAGES[name],
        )
    assert reply.status_code == 403
    assert reply.json()["type"].endswith(("foreign_origin", "foreign_host"))


@pytest.mark.parametrize(
    "sent",
    [
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"},
        {"host": "localhost"},
        {"host": "[::1]:8080"},
        {"host": "gate"},
    ],
)
async def test_this_machines_own_names_are_answered(serve, sent):
    async with serve() as client:
        assert (await client.get("/v1/policy", headers=sent)).status_code == 200


DEEP = 200_000
BODIES = {
    "lists nested in the metadata": b'{"question": "q", "image": "aa", "metadata": '
    + b"[" * DEEP + b"]" * DEEP + b"}",
    "objects nested": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "lists never closed": b"[" * DEEP,
    "a number of a million digits": b'{"question": "q", "image": "aa", "samples": '
    + b"9" * 1_000_000 + b"}",
    "a million fields": b"{" + b",".join(b'"f%d":1' % n for n in range(200_000)) + b"}",
    "the same field many times": b"{" + b",".join([b'"question":"q"'] * 100_000) + b"}",
    "not a number": b'{"question": "q", "image": "aa", "samples": NaN}',
    "half of a surrogate pair": b'{"question": "\\ud800", "image": "aa"}',
}  # fmt: skip


ADMIN: dict[str, tuple[str, str, bytes, int, str]] = {
    "a policy that accepts all, certified": (
        "PUT", "/v1/policy", b'{"policy": "certified", "accept_below": 1}', 422, "policy_refused",
    ),
    "a policy that needs no signal": (
        "PUT", "/v1/policy", b'{"policy": "certified", "required": []}', 422, "policy_refused",
    ),
    "a policy of 20 kB": ("PUT", "/v1/policy", b" " * 20_000, 413, "too_many_bytes"),
    "a nested policy": ("PUT", "/v1/policy", b"[" * 10_000, 400, "malformed_json"),
    "an infinite threshold": (
        "PUT", "/v1/policy", b'{"policy": "manual", "accept_below": 1e999, "reject_above": null}',
        422, "invalid_field",
    ),
    "a policy that names a file": (
        "PUT", "/v1/policy", b'{"policy": "certified", "file": "/etc/passwd"}', 422,
        "invalid_field",
    ),
    "a bundle from elsewhere": (
        "POST", "/v1/bundle:reload", b'{"bundle": "/tmp/evil"}', 422, "bundle_refused",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ADMIN)
async def test_what_decides_cannot_be_bent(serve, make_key, keys_file, bearer, tmp_path, name):
    """Even with an admin's key; the reload reads what the settings name, here a broken folder."""
    method, path, body, status, kind = ADMIN[name]
    key = bearer(make_key("admin", "answer"))
    sent = {**key, "content-type": "application/json"}
    async with serve(api_keys_file=keys_file, bundle=tmp_path / "none") as client:
        before = (await client.get("/v1/policy", headers=key)).json()
        reply = await client.request(method, path, content=body, headers=sent)
        after = (await client.get("/v1/policy", headers=key)).json()
    assert (reply.status_code, reply.json()["type"].rpartition(":")[2]) == (status, kind)
    assert "evil" not in reply.text
    assert before == after


@pytest.mark.parametrize("scope", ["answer", "review"])
async def test_only_an_admin_changes_what_decides(serve, make_key, keys_file, bearer, scope):
    manual = {"policy": "manual", "accept_below": 1, "reject_above": None}
    key = bearer(make_key(scope))
    async with serve(api_keys_file=keys_file) as client:
        for reply in (
            await client.put("/v1/policy", json=manual, headers=key),
            await client.post("/v1/bundle:reload", headers=key),
        ):
            assert reply.status_code == 403
            assert 'scope="admin"' in reply.headers["www-authenticate"]


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_gets_a_4xx_soon(serve, name):
    sent = {"content-type": "application/json"}
    async with serve() as client:
        reply = await client.post("/v1/answer", content=BODIES[name], headers=sent)
        ready = await client.get("/readyz")
    assert reply.status_code in (400, 422)
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(reply.content) < 1_000
    assert ready.status_code == 200
