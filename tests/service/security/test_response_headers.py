"""What every response says to browsers, and CORS."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio
REVIEW = "https://review.example"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/docs", 200),
        ("GET", "/redoc", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
        ("GET", "/readyz", 200),
        ("GET", "/nothing", 404),
        ("GET", "/v1/answer", 405),
        ("POST", "/v1/answer", 400),
        ("GET", "/v1/policy?api_key=x", 400),
    ],
)
async def test_every_response_carries_them(serve, method, path, status):
    async with serve() as client:
        reply = await client.request(method, path)
    assert reply.status_code == status
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "server" not in reply.headers


async def test_a_bug_of_ours_carries_them_too_and_tells_nothing(serve, engine, png, monkeypatch):
    async def broken(query, readout):
        raise RuntimeError("the password is hunter2")

    async with serve() as client:
        monkeypatch.setattr(engine, "generate", broken)
        reply = await client.post("/answer", data={"question": "q"}, files={"image": png})
    assert reply.status_code == 500
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "hunter2" not in reply.text


async def test_a_forged_host_is_in_no_redirect(serve):
    async with serve(allow_unauthenticated=True) as client:
        reply = await client.get("/metrics/", headers={"host": "evil.example"})
    assert reply.status_code == 404
    assert "location" not in reply.headers


async def test_cors_is_off_by_default(serve):
    origin = {"origin": "http://localhost:3000"}
    async with serve() as client:
        asked = await client.get("/readyz", headers=origin)
        before = await client.options("/v1/answer", headers=origin | PREFLIGHT)
    assert not [name for name in asked.headers if name.startswith("access-control")]
    assert not [name for name in before.headers if name.startswith("access-control")]
    assert before.status_code == 405


async def test_cors_admits_the_origins_set_and_no_other(serve, png, make_key, keys_file, bearer):
    key = make_key()
    async with serve(cors_origins=REVIEW, api_keys_file=keys_file) as client:
        before = await client.options("/v1/answer", headers={"origin": REVIEW} | PREFLIGHT)
        other = await client.options(
            "/v1/answer", headers={"origin": REVIEW + ".evil.example"} | PREFLIGHT
        )
        asked = await client.post(
            "/v1/answer",
            data={"question": "q"},
            files={"image": png},
            headers={"origin": REVIEW} | bearer(key),
        )
    assert (before.status_code, other.status_code, asked.status_code) == (200, 400, 200)
    assert before.headers["access-control-allow-origin"] == REVIEW
    assert asked.headers["access-control-allow-origin"] == REVIEW
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-credentials" not in asked.headers


async def test_an_origin_set_may_call_the_open_service(serve):
    async with serve(cors_origins=REVIEW) as client:
        reply = await client.get("/v1/policy", headers={"origin": REVIEW})
    assert reply.status_code == 200
