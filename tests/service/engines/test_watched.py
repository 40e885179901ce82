"""The watchdog: a hang is found, also behind short deadlines, and nothing else is taken for one."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from probes.types import NOTHING, Query
from service.engines.base import EngineError
from service.engines.fake import FakeEngine
from service.engines.watched import EngineHung, Watched

pytestmark = pytest.mark.anyio

QUERY = Query(np.zeros((2, 2, 3), dtype=np.uint8), "q")


async def test_everybody_inside_is_told_and_whoever_comes_after():
    engine = FakeEngine()
    watched = Watched(engine, 0.05)
    await watched.start()
    engine.hold()
    told = await asyncio.wait_for(
        asyncio.gather(
            *(watched.generate(QUERY, NOTHING) for _ in range(3)),
            watched.sample(QUERY, 2, temperature=1.0, top_p=1.0, seed=0),
            return_exceptions=True,
        ),
        10,
    )
    assert [type(error) for error in told] == [EngineHung] * 4
    assert engine.healthy
    assert not watched.healthy
    with pytest.raises(EngineHung):
        await watched.generate(QUERY, NOTHING)
    await watched.close()


async def test_short_deadlines_do_not_hide_it(monkeypatch):
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    engine = FakeEngine()
    watched = Watched(engine, 10.0)
    await watched.start()
    engine.hold()
    for _ in range(3):
        call = asyncio.create_task(watched.generate(QUERY, NOTHING))
        await asyncio.sleep(0)
        now += 4.0
        watched._look()  # as the alarm would
        call.cancel()
        with pytest.raises((asyncio.CancelledError, EngineHung)):
            await call
        now += 3600.0  # nobody asks
    assert watched.hung
    await watched.close()


async def test_answers_errors_and_idle_times_are_no_hang(monkeypatch):
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    engine = FakeEngine()
    watched = Watched(engine, 10.0)
    await watched.start()
    for failure in (None, EngineError("no"), None):
        engine.hold()
        call = asyncio.create_task(watched.generate(QUERY, NOTHING))
        await asyncio.sleep(0)
        now += 9.0
        watched._look()  # as the alarm would
        engine.failure = failure
        engine.release()
        await asyncio.gather(call, return_exceptions=True)
        now += 3600.0  # nobody asks
    engine.hold()
    call = asyncio.create_task(watched.generate(QUERY, NOTHING))
    await asyncio.sleep(0)
    now += 9.0
    watched._look()
    assert watched.healthy
    now += 2.0
    watched._look()
    assert not watched.healthy
    with pytest.raises(EngineHung):
        await call
    await watched.close()
