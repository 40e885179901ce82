"""The log as it is written: no key, no token, no address of an image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.observe.logs import hide
from service.settings import PREFIX

ROOT = Path(__file__).parents[3]
KEY = "vg_0123456789ab_" + "S3cret-_" * 5 + "abc"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

# Runs the app with the real log configuration at its most talkative.
SCRIPT = """
import asyncio, sys, httpx
sys.path.insert(0, "tests/service")
import conftest
from service.observe import logs
from service.app import create_app
from service.engines.fake import FakeEngine
from service.settings import Settings

logs.configure("debug")
key, other, jwt, keys = sys.argv[1:]
engine = FakeEngine(answer_for=lambda query: "yes")
app = create_app(Settings(engine="fake", api_keys_file=keys, image_url_hosts="a.example.com"),
                 engine, conftest.make_bundle(engine))

def remote(request):
    if request.url.path == "/i.png":
        return httpx.Response(404)  # which httpx would log with its whole URL
    raise httpx.ConnectError(str(request.url))

async def main():
    async with conftest.serving(app) as client:
        async def resolve(host):
            return ["93.184.215.14"]
        urls = app.state.gate.image_urls
        urls._resolve, urls._transport = resolve, httpx.MockTransport(remote)
        bad, worse = "Bearer " + other, "Bearer " + jwt
        good = {"authorization": "Bearer " + key}
        sent = {"question": "q", "image": "https://a.example.com/i.png?signature=S3cretSigned"}
        gone = {**sent, "image": sent["image"].replace("i.png", "j.png")}
        codes = [
            (await client.get("/v1/policy", headers=good)).status_code,
            (await client.get("/v1/policy", headers={**good, "authorization": bad})).status_code,
            (await client.get("/v1/policy", headers={"authorization": worse})).status_code,
            (await client.get("/v1/policy?api_key=" + other)).status_code,
            (await client.get("/" + other)).status_code,
            (await client.post("/v1/answer", json=sent, headers=good)).status_code,
            (await client.post("/v1/answer", json=gone, headers=good)).status_code,
        ]
        async def broken(query, readout):
            raise RuntimeError("upstream said Bearer " + other)
        engine.generate = broken
        files = {"image": conftest.encode(conftest.PLATE)}
        reply = await client.post("/answer", data={"question": "q"}, files=files, headers=good)
        print([*codes, reply.status_code])

asyncio.run(main())
"""


def test_no_secret_reaches_the_log(make_key, keys_file):
    key = make_key()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, key, KEY, JWT, str(keys_file)],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.stdout.strip() == "[200, 401, 401, 400, 400, 422, 422, 500]", ran.stderr
    assert "RuntimeError" in ran.stderr
    assert "image_not_fetched" in ran.stderr
    for secret in (key[16:], KEY[16:], "S3cret", JWT.split(".")[1], "i.png", "j.png", "signature"):
        assert secret not in ran.stderr
    # Who called is told by the key's id, which opens nothing.
    assert f'"caller": "{key.split("_")[1]}"' in ran.stderr


@pytest.mark.parametrize(
    "secret", [KEY, JWT, f"Bearer {KEY}", f"bearer {JWT}", "Basic dXNlcjpwYXNz"]
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(secret):
    line = hide(None, "info", json.dumps({"event": f"header was '{secret}'", "n": 1}))
    assert secret not in line
    assert secret.split()[-1].split(".")[-1][-8:] not in line
    assert json.loads(line)["n"] == 1


def test_ordinary_words_stay():
    line = json.dumps({"event": "request", "id": "01K0", "caller": "0123456789ab"})
    assert hide(None, "info", line) == line
