"""PostgreSQL crashes and comes back while questions are asked."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def test_answers_go_on_without_it_and_none_is_lost(
    postgres, start, calling, tmp_path, recorded
) -> None:
    url = postgres.empty_database()
    with start(records_url=url) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            async with calling(client) as callers:
                await callers.more(20)
                postgres.stop()
                try:
                    told = await running.ready(client, 200, state="failing")
                    assert told["ready"]
                    await callers.more(40)
                finally:
                    postgres.start()
                await running.ready(client, 200, state="ok")
                await callers.more(20)
            assert set(callers.told) == {(200, "")}
            await running.ready(client, 200, state="ok", waiting=0, lost=0)
            metrics = (await client.get("/metrics")).text
    assert "vlm_gate_records_dropped_total 0.0" in metrics
    assert len(set(callers.ids)) == len(callers.ids)
    assert recorded(url) == sorted(callers.ids)


async def test_strict_refuses_without_it_and_recovers(postgres, start, calling, recorded) -> None:
    url = postgres.empty_database()
    with start(records_url=url, records_strict="true", deadline_seconds=5) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            async with calling(client) as callers:
                await callers.more(20)
                postgres.stop()
                try:
                    told = await running.ready(client, 503, state="failing")
                    assert told["state"] == "records_unavailable"
                    await callers.more(20, 503)
                finally:
                    postgres.start()
                await running.ready(client, 200, state="ok")
                await callers.more(20)
            await running.ready(client, 200, waiting=0)
    # Whoever waited for a commit at the crash had to wait, and may have run out of time.
    assert set(callers.told) <= {(200, ""), (503, "records_unavailable"), (504, "deadline")}
    assert set(callers.ids) <= set(recorded(url))


async def test_what_cannot_be_written_at_the_end_is_counted(postgres, start, calling) -> None:
    with start(records_url=postgres.empty_database()) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            postgres.stop()
            try:
                async with calling(client) as callers:
                    await callers.more(10)
                told = await running.ready(client, 200, state="failing")
                running.process.terminate()
                assert running.process.wait(60) == 0
            finally:
                postgres.start()
    assert told["records"]["waiting"] == len(callers.ids)
    assert any(f'"lost": {len(callers.ids)}' in line for line in running.log)
