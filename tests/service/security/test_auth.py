"""Who may call: keys and tokens, scopes, and what is open."""

from __future__ import annotations

import json
import os

import httpx
import jwt
import pytest
from fastapi import Depends, FastAPI

from service.access.authenticator import Authenticator
from service.access.key_file import SCOPES, load_keys, new_key, revoke, save_keys, utc_now
from service.access.tokens import (
    COOLDOWN_SECONDS,
    FRESH_SECONDS,
    STALE_SECONDS,
    JwksError,
    JwksUrl,
    subject_id,
)
from service.app import create_app
from service.http.authentication import OPEN_PATHS, ScopeNeeded
from service.settings import Settings, SettingsError

pytestmark = pytest.mark.anyio
ASKED = "Is there a scratch?"


async def ask(client, png, headers=None, path="/v1/answer"):
    return await client.post(path, data={"question": ASKED}, files={"image": png}, headers=headers)


async def test_on_loopback_without_keys_it_is_open(serve, png):
    async with serve() as client:
        assert (await ask(client, png)).status_code == 200


async def test_with_keys_they_are_needed_on_loopback_too(serve, png, make_key, keys_file, bearer):
    key = make_key("answer")
    async with serve(api_keys_file=keys_file) as client:
        without = await ask(client, png)
        with_it = await ask(client, png, bearer(key))
        policy = await client.get("/v1/policy", headers=bearer(key))
    assert (without.status_code, with_it.status_code, policy.status_code) == (401, 200, 200)
    assert without.json()["type"] == "urn:vlm-gate:problem:no_key"
    assert without.headers["content-type"] == "application/problem+json"
    assert without.headers["www-authenticate"] == 'Bearer realm="vlm-gate"'


async def test_allow_unauthenticated_does_not_switch_keys_off(serve, png, make_key, keys_file):
    make_key()
    async with serve(api_keys_file=keys_file, allow_unauthenticated=True) as client:
        assert (await ask(client, png)).status_code == 401


async def test_metrics_health_and_docs_stay_open_and_nothing_else(serve, make_key, keys_file):
    make_key()
    async with serve(api_keys_file=keys_file) as client:
        opened = {path: (await client.get(path)).status_code for path in OPEN_PATHS}
        closed = {
            path: (await client.get(path)).status_code
            for path in ("/", "/v1/policy", "/v1/answer", "/answer", "/nothing", "/metrics/")
        }
    assert set(opened.values()) == {200}
    assert set(closed.values()) == {401}


async def test_every_route_needs_a_key_or_is_on_the_list(serve, make_key, keys_file):
    """A router that somebody adds and forgets to guard is closed all the same."""
    make_key()
    async with serve(api_keys_file=keys_file) as client:
        described = (await client.get("/openapi.json")).json()["paths"]
        for path in described:
            method = "POST" if "post" in described[path] else "GET"
            reply = await client.request(method, path)
            assert reply.status_code == (200 if path in OPEN_PATHS else 401), path


@pytest.mark.parametrize("held", SCOPES)
async def test_a_scope_implies_no_other(serve, png, make_key, keys_file, bearer, held):
    key = make_key(held)
    async with serve(api_keys_file=keys_file) as client:
        reply = await ask(client, png, bearer(key))
    if held == "answer":
        assert reply.status_code == 200
    else:
        assert reply.status_code == 403
        assert reply.json()["type"] == "urn:vlm-gate:problem:scope_missing"
        assert 'error="insufficient_scope", scope="answer"' in reply.headers["www-authenticate"]


async def test_a_router_asks_for_its_scope(serve, make_key, keys_file, bearer, engine, bundled):
    key = make_key("review")
    settings = Settings(engine="fake", api_keys_file=keys_file)
    app: FastAPI = create_app(settings, engine, bundled())
    for scope in SCOPES:
        app.get(f"/{scope}-only", dependencies=[Depends(ScopeNeeded(scope))])(lambda: "fine")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        codes = [
            (await client.get(f"/{scope}-only", headers=bearer(key))).status_code
            for scope in SCOPES
        ]
    assert codes == [403, 200, 403]


async def test_a_key_is_refused_before_the_body_is_read(make_key, keys_file, engine, bundled):
    make_key()
    app = create_app(Settings(engine="fake", api_keys_file=keys_file), engine, bundled())

    async def body():
        pytest.fail("the body was read")
        yield b""

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gate"
    ) as client:
        reply = await client.post("/v1/answer", content=body())
    assert reply.status_code == 401


async def test_keys_are_rotated_and_revoked_while_it_runs(serve, png, make_key, keys_file, bearer):
    old = make_key("answer")
    async with serve(api_keys_file=keys_file) as client:
        new, kept = new_key("line 3", ["answer"], utc_now())
        first = load_keys(keys_file).keys[0]
        save_keys(keys_file, [first, kept])
        both = [(await ask(client, png, bearer(key))).status_code for key in (old, new)]
        save_keys(keys_file, revoke([first, kept], first.id, utc_now()))
        after = [(await ask(client, png, bearer(key))).status_code for key in (old, new)]
        keys_file.write_text("damaged")
        damaged = [(await ask(client, png, bearer(key))).status_code for key in (old, new)]
        os.remove(keys_file)
        gone = [(await ask(client, png, bearer(key))).status_code for key in (old, new)]
    assert (both, after) == ([200, 200], [401, 200])
    assert (damaged, gone) == ([401, 200], [401, 200])


async def test_a_token_is_as_good_as_a_key(serve, png, provider, bearer):
    async with serve(**provider.settings) as client:
        good = await ask(client, png, bearer(provider.token()))
        other = await ask(client, png, bearer(provider.token(scope="review openid")))
        none = await ask(client, png, bearer(provider.token(scope=["answer"])))
    assert [good.status_code, other.status_code, none.status_code] == [200, 403, 403]


async def test_keys_and_tokens_side_by_side(serve, png, provider, make_key, keys_file, bearer):
    key = make_key("answer")
    async with serve(api_keys_file=keys_file, **provider.settings) as client:
        replies = [await ask(client, png, bearer(sent)) for sent in (key, provider.token())]
    assert [reply.status_code for reply in replies] == [200, 200]


class Endpoint(httpx.AsyncBaseTransport):
    """A JWKS URL that counts how often it is asked."""

    def __init__(self, document: object) -> None:
        self.document, self.status, self.asked = document, 200, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(self.status, content=json.dumps(self.document).encode())


async def test_keys_from_a_url_are_kept_fetched_again_and_forgotten(provider):
    endpoint, now = Endpoint(provider.document), 0.0
    source = JwksUrl("https://id.example/jwks", endpoint, lambda: now)
    for _ in range(5):
        assert isinstance(await source.find("k1"), jwt.PyJWK)
    assert endpoint.asked == 1
    # Unknown ids cannot make it hammer the provider.
    assert [await source.find(f"unknown{n}") for n in range(9)] == [None] * 9
    assert endpoint.asked == 1
    now = COOLDOWN_SECONDS
    endpoint.document = {"keys": [provider.public("k1"), provider.public("k2")]}
    assert await source.find("k2") is not None
    assert endpoint.asked == 2
    # The provider is away: what is known holds for an hour, not longer.
    endpoint.status = 500
    now += FRESH_SECONDS
    assert await source.find("k1") is not None
    now += STALE_SECONDS
    with pytest.raises(JwksError, match="cannot be had"):
        await source.find("k1")


@pytest.mark.parametrize("broken", [{}, {"keys": []}, {"keys": 7}, [], "x" * (2 << 20)])
async def test_a_url_without_keys_opens_nothing(broken):
    source = JwksUrl("https://id.example/jwks", Endpoint(broken), lambda: 0.0)
    with pytest.raises(JwksError):
        await source.find("k1")


async def test_tokens_get_a_503_while_the_providers_keys_cannot_be_had(
    serve, png, provider, bearer, monkeypatch
):
    async with serve(**provider.settings) as client:

        async def away(self, kid):
            raise JwksError("away")

        monkeypatch.setattr("service.access.tokens.JwksFile.find", away)
        reply = await ask(client, png, bearer(provider.token()))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "30")
    assert reply.json()["type"] == "urn:vlm-gate:problem:jwks_unavailable"


def test_keys_that_were_asked_for_and_cannot_be_had_stop_the_start(keys_file, provider, make_key):
    def start(**settings):
        Authenticator.from_settings(Settings(engine="fake", **settings))

    with pytest.raises(SettingsError, match=r"VLM_GATE_API_KEYS_FILE.*vlm-gate keys create"):
        start(api_keys_file=keys_file)
    make_key()
    save_keys(keys_file, revoke(load_keys(keys_file).keys, load_keys(keys_file).keys[0].id,
                                utc_now()))  # fmt: skip
    with pytest.raises(SettingsError, match="no active key"):
        start(api_keys_file=keys_file, host="0.0.0.0")
    provider.jwks.write_text(json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "s"}]}))
    with pytest.raises(SettingsError, match="VLM_GATE_JWT_JWKS"):
        start(**provider.settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "VLM_GATE_API_KEYS_FILE"),
        ({"host": "::"}, "VLM_GATE_API_KEYS_FILE"),
        ({"jwt_jwks": "keys.json"}, "VLM_GATE_JWT_AUDIENCE"),
        ({"jwt_issuer": "i"}, "VLM_GATE_JWT_JWKS"),
        ({"jwt_jwks": "http://a/k", "jwt_issuer": "i", "jwt_audience": "a"}, "https URL"),
        ({"cors_origins": "*"}, "no wildcard"),
        ({"cors_origins": "https://a.example/path"}, "VLM_GATE_CORS_ORIGINS"),
        ({"image_url_hosts": "*.example.com"}, "no wildcard"),
        ({"image_url_hosts": "127.0.0.1"}, "VLM_GATE_IMAGE_URL_HOSTS"),
        ({"image_url_hosts": "localhost"}, "VLM_GATE_IMAGE_URL_HOSTS"),
        ({"image_url_hosts": "a.example:8443"}, "VLM_GATE_IMAGE_URL_HOSTS"),
    ],
)
def test_settings_that_would_open_too_much_are_refused(settings, said):
    with pytest.raises(ValueError, match=said.replace("*", r"\*")):
        Settings(engine="fake", **settings)


def test_keys_allow_any_address(keys_file):
    settings = Settings(engine="fake", host="0.0.0.0", api_keys_file=keys_file)
    assert settings.image_url_hosts == ()
    two = Settings(engine="fake", image_url_hosts="a.example, b.example")
    assert two.image_url_hosts == ("a.example", "b.example")


SKIPPED: dict[str, object] = {
    "a key of an unknown kind": {"kty": "AKP", "kid": "k9", "alg": "ML-DSA-44"},
    "a curve that nobody has": {"kty": "EC", "kid": "k9", "crv": "secp192r1", "x": "AA", "y": "AA"},
    "an algorithm that nobody has": {
        "kty": "RSA", "kid": "k9", "alg": "XX", "n": "AQAB", "e": "AQAB",
    },
    "a key without its numbers": {"kty": "RSA", "kid": "k9"},
    "numbers that are none": {"kty": "RSA", "kid": "k9", "n": 1, "e": None},
    "a point that is not on the curve": {
        "kty": "EC", "kid": "k9", "crv": "P-256", "x": "AAAA", "y": "AAAA",
    },
    "null": None,
    "a word": "k1",
    "a list": [],
    "a kind that is a list": {"kty": ["RSA"], "kid": "k9"},
    "a key without an id": {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    "a key to encrypt with": {"kty": "RSA", "kid": "k9", "use": "enc", "n": "AQAB", "e": "AQAB"},
}  # fmt: skip


@pytest.mark.parametrize("name", SKIPPED)
async def test_a_key_that_is_not_understood_is_left_out(serve, png, provider, bearer, name):
    """RFC 7517, 5: the others count all the same."""
    provider.jwks.write_text(json.dumps({"keys": [SKIPPED[name], provider.public("k1")]}))
    async with serve(**provider.settings) as client:
        assert (await ask(client, png, bearer(provider.token()))).status_code == 200


@pytest.mark.parametrize(
    "text", ["null", "[]", "7", '""', '{"keys": null}', '{"keys": "k1"}', '{"keys": [null]}',
             '{"keys": {}}', "[" * 100_000, "\xff"],
)  # fmt: skip
def test_what_is_no_jwks_stops_the_start_by_name(provider, text):
    provider.jwks.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="JWT_JWKS"):
        Authenticator.from_settings(Settings(engine="fake", **provider.settings))


ODD_CLAIMS: dict[str, tuple[dict[str, object], int]] = {
    "half a pair as a subject": ({"sub": "\ud800"}, 200),
    "another half as a subject": ({"sub": "camera \udfff"}, 200),
    "half a pair in the scope": ({"scope": "answer \ud800"}, 200),
    "half a pair in a claim that nobody reads": ({"name": "\ud800"}, 200),
    "a scope that is a list": ({"scope": ["answer"]}, 403),
    "an end at infinity": ({"exp": float("inf")}, 401),
    "an end that is no number": ({"exp": float("nan")}, 401),
    "an end that is a list": ({"exp": []}, 401),
    "a beginning at infinity": ({"nbf": float("inf")}, 401),
    "a subject that is a number": ({"sub": 7}, 401),
    "an audience that is a number": ({"aud": 7}, 401),
    "an issuer that is a list": ({"iss": ["https://id.example"]}, 401),
}


@pytest.mark.parametrize("name", ODD_CLAIMS)
async def test_odd_claims_are_read_or_refused(serve, png, provider, bearer, name):
    claims, status = ODD_CLAIMS[name]
    encoded = json.dumps(provider.claims(**claims)).encode()
    token = jwt.api_jws.encode(encoded, provider.known, algorithm="ES256", headers={"kid": "k1"})
    async with serve(**provider.settings) as client:
        assert (await ask(client, png, bearer(token))).status_code == status


def test_subjects_that_differ_in_half_a_pair_are_two():
    ids = {subject_id({"iss": "i", "sub": sub}) for sub in ("\ud800", "\ud801", "?", "\ufffd")}
    assert len(ids) == 4
