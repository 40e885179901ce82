"""Decoding in processes of their own: the same images, and what kills one costs one request."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probes.data.images import load_image
from service.errors import Invalid, TooLarge, UnsupportedType
from service.images import pool
from service.images.decoder import PIECE
from service.images.picture import Picture
from service.images.pool import Decoders
from service.images.wire import (
    FACTS_BYTES,
    BrokenReply,
    check_head,
    read_picture,
    read_refusal,
)
from tests.probes.pictures.cases import cases

pytestmark = pytest.mark.anyio
MOST_BYTES, MOST_PIXELS = 50_000_000, 36_000_000


def pids(decoders: Decoders) -> list[int]:
    """Of the processes that run."""
    return [decoder.process.pid for decoder in decoders._running]


@asynccontextmanager
async def decoding(count: int = 1, **options: float) -> AsyncIterator[Decoders]:
    """A pool that has started."""
    decoders = Decoders(count, MOST_BYTES, MOST_PIXELS, **options)
    await decoders.start()
    try:
        yield decoders
    finally:
        await decoders.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for another process to come so far."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.002)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def large() -> bytes:
    """A PNG that takes a large part of a second."""
    stored = io.BytesIO()
    Image.new("RGB", (6000, 6000), "red").save(stored, "PNG", compress_level=1)
    return stored.getvalue()


async def test_the_same_as_in_process_however_many_come_at_once(png, large):
    async with decoding(2) as decoders:
        found = await asyncio.gather(*(decoders.decode(f) for f in [png, large, *[png] * 20]))
    for picture, file in zip(found[:2], (png, large), strict=True):
        wanted = Picture.decode(file, MOST_BYTES, MOST_PIXELS)
        assert np.array_equal(picture.pixels, wanted.pixels)
        assert np.array_equal(picture.features, wanted.features)
        assert (picture.sha256, picture.file) == (wanted.sha256, wanted.file)
        assert picture.pixels.flags.writeable
    assert all(np.array_equal(one.pixels, found[0].pixels) for one in found[2:])


@pytest.mark.parametrize(
    ("file", "error", "kind"),
    [
        (b"", Invalid, "undecodable_image"),
        (b"nonsense", Invalid, "undecodable_image"),
        (b"GIF89a" + bytes(20), UnsupportedType, "unsupported_image"),
        (bytes(MOST_BYTES + 1), TooLarge, "too_many_bytes"),
    ],
)
async def test_a_refusal_keeps_its_words(file, error, kind):
    with pytest.raises(error) as here:
        Picture.decode(file, MOST_BYTES, MOST_PIXELS)
    async with decoding() as decoders:
        with pytest.raises(error) as there:
            await decoders.decode(file)
    assert there.value.kind == kind
    assert (there.value.detail, there.value.field) == (here.value.detail, here.value.field)


async def test_an_image_that_takes_too_long_ends_its_decoder_and_no_more(png, large):
    async with decoding(image_seconds=0.1) as decoders:
        (before,) = pids(decoders)
        with pytest.raises(Invalid, match="takes too long"):
            await decoders.decode(large)
        assert (await decoders.decode(png)).pixels.shape == (48, 64, 3)
        assert pids(decoders) != [before]
        assert not alive(before)


async def test_a_decoder_that_is_killed_is_replaced_and_its_image_tried_again(png, large):
    async with decoding() as decoders:
        (idle,) = pids(decoders)
        os.kill(idle, signal.SIGKILL)
        await until(lambda: pids(decoders) not in ([], [idle]))
        asked = asyncio.create_task(decoders.decode(large))
        await asyncio.sleep(0)
        os.kill(pids(decoders)[0], signal.SIGKILL)
        assert (await asked).pixels.shape == (6000, 6000, 3)


async def test_an_image_that_two_decoders_die_of_is_refused(png, large):
    async with decoding() as decoders:
        asked = asyncio.create_task(decoders.decode(large))
        seen: list[int] = []
        while not asked.done():
            new = [pid for pid in pids(decoders) if pid not in seen]
            if new and not decoders._idle and not decoders._lines:
                seen += new
                os.kill(new[0], signal.SIGKILL)
            await asyncio.sleep(0.002)
        with pytest.raises(Invalid, match="breaks the decoder"):
            await asked
        assert len(seen) == 2
        assert (await decoders.decode(png)).pixels.shape == (48, 64, 3)


async def test_who_gives_up_gets_out_of_the_way(png, large):
    async with decoding() as decoders:
        working = asyncio.create_task(decoders.decode(large))
        queued = asyncio.create_task(decoders.decode(large))
        await asyncio.sleep(0)
        working.cancel()
        queued.cancel()
        await asyncio.gather(working, queued, return_exceptions=True)
        assert not decoders._lines
        (before,) = pids(decoders)
        assert (await decoders.decode(png)).pixels.shape == (48, 64, 3)
        assert pids(decoders) == [before]


async def test_limits_and_signals(png):
    async with decoding() as decoders:
        (pid,) = pids(decoders)
        assert resource.prlimit(pid, resource.RLIMIT_AS)[0] < 5 * 2**30
        for sent in (signal.SIGTERM, signal.SIGINT):  # a whole group is told; it still is needed
            os.kill(pid, sent)
        await decoders.decode(png)
        assert pids(decoders) == [pid]
    assert not alive(pid)


def test_memory_that_is_not_there_is_an_error_and_no_death():
    code = (
        "import numpy; from service.images.process import _limit_memory; _limit_memory(2**27)\n"
        "try: numpy.ones(2**28, dtype=numpy.uint8)\n"
        "except MemoryError: print('refused')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "refused"


def test_it_imports_little():
    loaded = "*{name.partition('.')[0] for name in sys.modules}"
    code = f"import service.images.process, sys; print({loaded})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "scipy", "fastapi", "pydantic", "sklearn", "sqlalchemy"}
    assert not heavy & set(told.stdout.split())


@pytest.mark.parametrize(
    "head",
    [
        (True, 100_000, 100_000, FACTS_BYTES),
        (True, 0, 5, FACTS_BYTES),
        (True, 5, 5, 7),
        (False, 0, 0, 1_000_000),
        (False, 1, 1, 10),
    ],
)
async def test_no_room_is_made_for_what_no_decoder_says(head):
    with pytest.raises(BrokenReply):
        check_head(*head, MOST_PIXELS)


async def test_broken_words():
    for words in (b"{", b'["SystemExit", "x", null, "y"]', b"[1]", b"5"):
        with pytest.raises(BrokenReply):
            read_refusal(words)
    with pytest.raises(BrokenReply):
        read_picture(b"\xff" * FACTS_BYTES, np.zeros((1, 1, 3), dtype=np.uint8), b"")


async def test_a_service_whose_decoder_dies_answers_on(serve, png):
    async with serve(decode_processes=1) as client:
        form = {"data": {"question": "Is it whole?"}}
        gate = client._transport.app.state.gate
        first = await client.post("/v1/answer", **form, files={"image": png})
        (pid,) = pids(gate._decoders)
        os.kill(pid, signal.SIGKILL)
        second = await client.post("/v1/answer", **form, files={"image": png})
        bad = await client.post("/v1/answer", **form, files={"image": b"nonsense"})
    assert [first.status_code, second.status_code, bad.status_code] == [200, 200, 422]
    assert bad.json()["field"] == "image"


async def test_callers_take_turns(png, large):
    """Another's image waits for two of five, and not for all."""
    done: list[str] = []

    async def decode(decoders: Decoders, file: bytes, caller: str) -> None:
        await decoders.decode(file, caller)
        done.append(caller)

    async with decoding(1) as decoders, asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(decode(decoders, large, "greedy"))
        await asyncio.sleep(0)
        group.create_task(decode(decoders, png, "other"))
    assert done.index("other") <= 2
    assert len(done) == 6


async def test_one_caller_never_holds_the_last_decoder(png, large):
    async with decoding(2) as decoders:
        greedy = [asyncio.create_task(decoders.decode(large, "greedy")) for _ in range(2)]
        await asyncio.sleep(0)
        assert len(decoders._idle) == 1
        await decoders.decode(png, "other")
        assert not any(task.done() for task in greedy)
        for task in greedy:
            task.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)
        await until(lambda: len(decoders._idle) == 2)
        assert not decoders._held
        assert not decoders._lines


async def test_a_stopped_decoder_is_replaced_and_its_image_decoded(png, monkeypatch):
    monkeypatch.setattr("service.images.pool.WATCH_SECONDS", 0.05)
    async with decoding(1) as decoders:
        (before,) = pids(decoders)
        os.kill(before, signal.SIGSTOP)
        assert (await decoders.decode(png)).pixels.shape == (48, 64, 3)
        assert before not in pids(decoders)
        assert not alive(before)
        assert decoders.working


async def test_idle_ones_that_stop_are_seen(png, monkeypatch):
    monkeypatch.setattr("service.images.pool.WATCH_SECONDS", 0.05)
    async with decoding(2) as decoders:
        before = pids(decoders)
        await until(lambda: decoders.working)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: not decoders.working)
        await until(lambda: decoders.working and not set(before) & set(pids(decoders)))
        assert (await decoders.decode(png)).pixels.shape == (48, 64, 3)


async def test_readiness_knows_and_the_service_mends_itself(serve, png, monkeypatch):
    monkeypatch.setattr("service.images.pool.WATCH_SECONDS", 0.05)
    form = {"data": {"question": "Is it whole?"}}
    async with serve(decode_processes=2) as client:
        gate = client._transport.app.state.gate
        assert (await client.get("/readyz")).status_code == 200
        for pid in pids(gate._decoders):
            os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(client.post("/v1/answer", **form, files={"image": png}))
        await until(lambda: not gate._decoders.working)
        told = await client.get("/readyz")
        assert (told.status_code, told.json()["state"]) == (503, "decoders_unavailable")
        assert (await asked).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("come_so_far", ["before it is there", "while it starts"])
async def test_closing_while_a_decoder_is_replaced_leaves_no_process(monkeypatch, come_so_far):
    spawned: list[subprocess.Popen[bytes]] = []
    spawn = pool._spawn

    def noted(*arguments):
        spawned.append(spawn(*arguments))
        return spawned[-1]

    monkeypatch.setattr(pool, "_spawn", noted)
    async with decoding(1) as decoders:
        os.kill(pids(decoders)[0], signal.SIGKILL)
        if come_so_far == "before it is there":
            await until(lambda: decoders._replacing)
        else:
            await until(lambda: len(spawned) == 2)
    assert all(process.returncode is not None for process in spawned)


async def test_a_request_whose_image_was_not_decoded_in_time_is_told_so(serve, png):
    form = {"data": {"question": "Is it whole?"}}
    async with serve(decode_processes=1, deadline_seconds=3) as client:
        gate = client._transport.app.state.gate
        os.kill(pids(gate._decoders)[0], signal.SIGSTOP)
        told = await client.post("/v1/answer", **form, files={"image": png})
    assert told.status_code == 504
    assert "image was still being fetched or decoded" in told.json()["detail"]
    assert "samples" not in told.json()["detail"]


async def test_every_kind_of_file_is_the_same_there_to_the_byte(tmp_path):
    """Offline and in the service: one decoder, whichever process it runs in."""
    async with decoding(1) as decoders:
        for name, case in cases().items():
            path = tmp_path / "picture"
            path.write_bytes(case.file)
            picture = await decoders.decode(case.file)
            assert np.array_equal(picture.pixels, load_image(path)), name
            assert picture.damage is None


@pytest.mark.parametrize("excess", [-1, 0, 1, 3 * PIECE + 7])
async def test_a_file_in_pieces_arrives_whole(excess) -> None:
    """What follows a picture in its file changes nothing, and makes it as long as wanted."""
    whole = next(iter(cases().values())).file
    file = whole + bytes(PIECE - len(whole) + excess)
    async with decoding() as decoders:
        found = [await decoders.decode(one) for one in (file, whole, file)]
    pixels = Picture.decode(whole, MOST_BYTES, MOST_PIXELS).pixels
    assert all(np.array_equal(one.pixels, pixels) for one in found)
    assert [one.sha256 for one in found] == [sha256(one).hexdigest() for one in (file, whole, file)]
