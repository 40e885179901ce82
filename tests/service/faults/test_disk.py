"""The disk that holds the records fills up, and has room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "state"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room; gives the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@pytest.mark.parametrize("strict", [False, True], ids=["answers go on", "strict"])
async def test_a_full_disk_is_told_and_got_over(
    small_disk, start, calling, recorded, strict
) -> None:
    with start(records_strict=strict, deadline_seconds=5) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            async with calling(client) as callers:
                await callers.more(10)
                ballast = fill(small_disk)
                await running.ready(client, 503 if strict else 200, state="failing")
                await callers.more(10, 503 if strict else 200)
                ballast.unlink()
                await running.ready(client, 200, state="ok")
                await callers.more(10)
            await running.ready(client, 200, waiting=0)
        there = recorded(f"sqlite:///{small_disk / 'records.db'}")
    if strict:
        refusals = {(503, "records_unavailable"), (504, "deadline")}
        assert set(callers.told) <= {(200, ""), *refusals}
        assert set(callers.ids) <= set(there)
    else:
        assert set(callers.told) == {(200, "")}
        assert there == sorted(callers.ids)
