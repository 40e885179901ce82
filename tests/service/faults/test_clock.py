"""The wall clock jumps while the service runs: forth by a year, and back by two."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.records.clock import CautiousClock

pytestmark = pytest.mark.anyio
WITHOUT = "TESTS_WITHOUT_FAKETIME"
DAY = 86_400


@pytest.fixture
def faketime() -> str:
    """The library that moves a process's wall clock."""
    if os.environ.get(WITHOUT):
        pytest.skip(f"{WITHOUT} is set")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.fail(f"there is no libfaketime here: install it, or set {WITHOUT}=1")
    return str(found[0])


async def test_the_service_goes_on_and_its_records_hold(
    faketime, start, calling, tmp_path, recorded, png
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("+0")
    environment = {
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(shift),
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    settings = {"records_retention_days": 30, "deadline_seconds": 20, "quota_per_second": 1000}
    with start(environment, **settings) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            async with calling(client) as callers:
                for days in (0, 365, -365, 365, 0):
                    shift.write_text(f"{days * DAY:+d}")
                    await callers.more(10)
            await running.ready(client, 200, state="ok", waiting=0, lost=0)
            newest = (await client.get("/v1/answers", params={"limit": 500})).json()["answers"]
    assert set(callers.told) == {(200, "")}
    years = [datetime.fromisoformat(answer["created"]).year for answer in newest]
    assert max(years) - min(years) == 2  # it did jump
    assert years == sorted(years, reverse=True)
    assert recorded(f"sqlite:///{tmp_path / 'state' / 'records.db'}") == sorted(callers.ids)


def test_a_clock_that_went_ahead_deletes_nothing() -> None:
    wall, steady = [datetime(2026, 1, 1, tzinfo=UTC)], [100.0]
    clock = CautiousClock(lambda: wall[0], lambda: steady[0])
    steady[0] += 3600
    wall[0] += timedelta(days=3650)
    assert clock.now() == datetime(2026, 1, 1, 1, tzinfo=UTC)
    wall[0] = datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.now() == wall[0]  # back in time less is too old
