"""`kill -9` of the service among requests in flight: who got an answer is in the records."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from probes.model.folder import write_bundle
from probes.model.policy import Policy
from service.records.head import SigningKey
from service.records.verify import verify

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
REQUESTS = 200
AT_ONCE = 50
"""On their way at any time: however slowly their answers are read here, some are still to come."""
ANSWERED = 40
LIMIT_SECONDS = 300


@contextmanager
def service(folder: Path, url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A strict `vlm-gate serve` on the fake engine, ready; gives it and its address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLM_GATE_")}
    settings = {
        "ENGINE": "fake",
        "PORT": "0",
        "BUNDLE": str(folder / "bundle"),
        "STATE_FOLDER": str(folder / "state"),
        "RECORDS_URL": url,
        "RECORDS_STRICT": "true",
        "MAX_INFLIGHT": "8",  # so that they cannot all be answered at one stroke
        "MAX_QUEUE": str(REQUESTS),
        "DEADLINE_SECONDS": str(LIMIT_SECONDS),
    }
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve"],
            cwd=ROOT,
            env={
                **kept,
                "PYTHONPATH": str(ROOT),
                **{f"VLM_GATE_{name}": value for name, value in settings.items()},
            },
            stderr=subprocess.PIPE,
            stdout=log,
            text=True,
        )
    assert started.stderr is not None
    try:
        found = re.search(r"listening on (\S+)", started.stderr.readline())
        assert found is not None
        for line in started.stderr:
            if '"event": "ready"' in line:
                break
        else:
            pytest.fail("the service ended before it was ready")
        yield started, found.group(1)
    finally:
        started.kill()
        started.communicate()


async def test_every_answered_request_is_in_the_records(
    url: str, tmp_path: Path, bundled, png: bytes, open_store
) -> None:
    bundle = bundled(policy=Policy(mode="manual", accept_below=0.5, reject_above=0.95))
    write_bundle(replace(bundle, attempts=(), alpha=None), tmp_path / "bundle")
    told: list[str] = []
    enough = asyncio.Event()

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        data = {"question": f"Is part {number} whole?", "self_consistency": "always"}
        try:
            reply = await client.post("/v1/answer", data=data, files={"image": png})
        except httpx.TransportError:
            return  # the service was gone
        if reply.status_code == 200:
            told.append(reply.json()["id"])
            if len(told) == ANSWERED:
                started.kill()
                enough.set()

    with service(tmp_path, url) as (started, address):
        drained = asyncio.create_task(asyncio.to_thread(started.stderr.read))
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(
            base_url=address, limits=limits, timeout=LIMIT_SECONDS
        ) as client:
            asked = [asyncio.create_task(ask(client, number)) for number in range(REQUESTS)]
            async with asyncio.timeout(LIMIT_SECONDS):
                await enough.wait()
            await asyncio.gather(*asked)
        await drained
    assert ANSWERED <= len(told) < REQUESTS  # it was killed among them
    assert len(set(told)) == len(told)

    key = SigningKey.load_or_create(tmp_path / "state" / "signing-key.pem")
    store = open_store(url, key=key)
    missing = [one for one in told if store.get(one) is None]
    assert missing == []
    report = verify(store)
    assert report.ok, report.problems
    assert len(told) <= report.rows <= REQUESTS
