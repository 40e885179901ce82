"""The processes that decode images: a few, each at one image; one that dies is replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import cast

import numpy as np
import structlog

from probes.types import ImageArray
from service.decoder_protocol import (
    HEAD,
    LENGTH,
    BrokenReply,
    check_head,
    read_picture,
    read_refusal,
)
from service.errors import Invalid, ServiceError
from service.picture import Picture

log = structlog.get_logger("service.decoders")
IMAGE_SECONDS = 10.0
"""Longest time at one image. Two hundred times what the largest takes."""
START_SECONDS = 20.0
PAUSE_SECONDS = 1.0
"""Before another is started in the place of one that could not be."""
TRIES = 2
"""A decoder may have been killed by somebody else; the image that two die of is refused."""
ROOM = 2**18
"""Bytes read at once: a small image's reply comes in one piece."""


class DecoderDied(Exception):
    """The process ended before it replied.

    Args:
        process: it.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process.pid)
        self.process = process


class DecodersError(Exception):
    """A process could not be started."""


class Decoder(asyncio.BufferedProtocol):
    """This side of one process: a file goes out, a reply comes in.

    Args:
        process: the other side.
        max_pixels: most pixels that a reply may announce.
        free: called when it may be asked again. died: called when it will not answer any more.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        max_pixels: int,
        free: Callable[[Decoder], None],
        died: Callable[[Decoder], None],
    ) -> None:
        self.process = process
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._max_pixels, self._free, self._died = max_pixels, free, died
        self._reply: asyncio.Future[Picture] | None = None
        self._file = b""
        self._room = bytearray(ROOM)
        self._begun = b""
        self._facts = b""
        self._pixels: ImageArray | None = None
        self._rest: memoryview | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def ask(self, file: bytes, reply: asyncio.Future[Picture]) -> None:
        """Send a file, while it is free. Who does not want the reply any more cancels it."""
        self._reply, self._file = reply, file
        self._transport.writelines([LENGTH.pack(len(file)), file])

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Once the head is known the pixels go straight to where they belong."""
        return memoryview(self._room) if self._rest is None else self._rest

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self._rest is None:
                self._begin(bytes(memoryview(self._room)[:nbytes]))
            else:
                self._rest = self._rest[nbytes:]
            if self._pixels is not None and not self._rest:
                self._end(read_picture(self._facts, self._pixels, self._file))
        except BrokenReply as error:
            log.error("decoder_broken", detail=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.ready, self._reply):
            if waiting is not None and not waiting.done():
                waiting.set_exception(DecoderDied(self.process))
        self._died(self)

    def _begin(self, data: bytes) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
            data = data[1:]
        self._begun += data
        if len(self._begun) < HEAD.size:
            return
        image, height, width, size = HEAD.unpack_from(self._begun)
        check_head(image, height, width, size, self._max_pixels)
        start = HEAD.size + size
        if len(self._begun) < start:
            return
        told, came = self._begun[HEAD.size : start], self._begun[start:]
        self._begun = b""
        if not image:
            self._end(read_refusal(told))
            return
        self._facts, self._pixels = told, np.empty((height, width, 3), dtype=np.uint8)
        whole = self._pixels.data.cast("B")
        if len(came) > len(whole):
            raise BrokenReply("more than one image")
        whole[: len(came)] = came
        self._rest = whole[len(came) :]

    def _end(self, result: Picture | ServiceError) -> None:
        reply, self._reply, self._file = self._reply, None, b""
        self._pixels = self._rest = None
        if reply is None:
            raise BrokenReply("a reply to nothing")
        self._free(self)
        if reply.done():  # given up meanwhile
            return
        if isinstance(result, Picture):
            reply.set_result(result)
        else:
            reply.set_exception(result)


class Decoders:
    """A pool of processes.

    Args:
        count: of processes; each decodes one image at a time.
        max_bytes: most bytes of a file. max_pixels: most pixels of an image.
        image_seconds: longest time at one image.
    """

    def __init__(
        self, count: int, max_bytes: int, max_pixels: int, image_seconds: float = IMAGE_SECONDS
    ) -> None:
        self._count, self._max_pixels = count, max_pixels
        self._arguments = [str(max_bytes), str(max_pixels), str(image_seconds)]
        self._idle: list[Decoder] = []
        self._waiting: dict[asyncio.Future[Picture], bytes] = {}
        """Files that no decoder is free for, in order of coming."""
        self._running: set[Decoder] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [decoder.process.pid for decoder in self._running]

    async def start(self) -> None:
        """Start all at once. Raises DecodersError."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._start())
        except* DecodersError as failed:
            await self.close()
            raise failed.exceptions[0] from None

    async def decode(self, file: bytes) -> Picture:
        """Decode a file. Given up on, the process is free again once it is done with the image.

        Raises:
            Invalid: the image kills decoders, too. The rest as :func:`service.images.decode_image`.
        """
        died = 0
        while died < TRIES:
            reply: asyncio.Future[Picture] = asyncio.get_running_loop().create_future()
            if self._idle:
                self._idle.pop().ask(file, reply)
            else:
                self._waiting[reply] = file
            try:
                return await reply
            except DecoderDied as error:
                code = await asyncio.to_thread(error.process.wait)
                died += TRIES if code == -signal.SIGALRM else 1
            finally:
                self._waiting.pop(reply, None)
        raise Invalid(
            "the image takes too long to decode, or breaks the decoder; send it in another format",
            field="image",
            kind="undecodable_image",
        )

    async def close(self) -> None:
        """End all."""
        self._closing = True
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        running = list(self._running)
        for decoder in running:
            decoder.close()
        for decoder in running:
            await asyncio.to_thread(decoder.process.wait)
        self._running.clear()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.to_thread(_spawn, theirs.fileno(), self._arguments)
            except OSError as error:
                ours.close()
                raise DecodersError(f"no process can be started: {error}") from error
        _, decoder = await asyncio.get_running_loop().create_unix_connection(
            lambda: Decoder(process, self._max_pixels, self._free, self._lost),
            sock=ours,
        )
        self._running.add(decoder)
        try:
            async with asyncio.timeout(START_SECONDS):
                await decoder.ready
        except (TimeoutError, DecoderDied) as error:
            self._running.discard(decoder)
            decoder.close()
            code = await asyncio.to_thread(process.wait)
            raise DecodersError(f"a process that decodes images ended with {code}") from error
        self._free(decoder)

    def _free(self, decoder: Decoder) -> None:
        """Give it the next file, before whoever waits for the last one goes on."""
        while self._waiting:
            reply = next(iter(self._waiting))
            file = self._waiting.pop(reply)
            if not reply.done():
                decoder.ask(file, reply)
                return
        self._idle.append(decoder)

    def _lost(self, decoder: Decoder) -> None:
        if self._closing or decoder not in self._running:  # never ready: who starts it knows
            return
        self._running.discard(decoder)
        if decoder in self._idle:
            self._idle.remove(decoder)
        task = asyncio.create_task(self._replace(decoder))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, decoder: Decoder) -> None:
        decoder.close()
        code = await asyncio.to_thread(decoder.process.wait)
        log.error("decoder_died", code=code)
        while True:
            try:
                return await self._start()
            except DecodersError as error:
                log.error("decoder_not_started", detail=str(error))
                await asyncio.sleep(PAUSE_SECONDS)


def _spawn(descriptor: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    """The same code as this process runs, and nothing from the folder that it happens to be in."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "service.decoder", str(descriptor), *arguments],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
