"""The service is killed, or a whole group is told to end: its decoders go when it goes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.anyio


def decoders_of(pid: int) -> list[int]:
    """Its child processes."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for one in lists for child in one.read_text().split()]


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
async def test_no_decoder_outlives_the_service(start, png, sent) -> None:
    with start(decode_processes=2) as running:
        decoders = decoders_of(running.process.pid)
        assert len(decoders) == 2
        if sent == signal.SIGTERM:
            for pid in decoders:
                os.kill(pid, sent)  # as when a whole group is told
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            told = await client.post("/v1/answer", data={"question": "q"}, files={"image": png})
        assert told.status_code == 200
        assert decoders_of(running.process.pid) == decoders
        running.process.send_signal(sent)
        code = await asyncio.to_thread(running.process.wait, 60)
        assert code == (-signal.SIGKILL if sent == signal.SIGKILL else 0)
        async with asyncio.timeout(20):
            while any(alive(pid) for pid in decoders):  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(0.005)
