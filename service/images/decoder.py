"""The service's side of one decoding process: it sends a file, and reads the reply."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import structlog

from probes.types import ImageArray
from service.errors import ServiceError
from service.images.picture import Picture
from service.images.wire import (
    HEAD,
    LENGTH,
    BrokenReply,
    check_head,
    read_picture,
    read_refusal,
)

log = structlog.get_logger("service.images.decoder")
STALL_SECONDS = 3.0
"""A decoder that gave no sign for so long, and took no processor time, hangs."""
PIECE = 2**17
"""Bytes of a file written at once: all of a large one would hold the event loop for long."""
ROOM = 2**18
"""Bytes read at once: a small image's reply comes in one piece."""


class DecoderDied(Exception):
    """The process ended before it replied.

    Args:
        process: the one that ended.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process.pid)
        self.process = process


class DecoderHung(DecoderDied):
    """The process was killed because it gave no sign of life; the image is not to blame."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A file to decode, its caller, and the future that gets the result."""

    file: bytes
    caller: str
    reply: asyncio.Future[Picture]


class Decoder(asyncio.BufferedProtocol):
    """Talks to one decoding process, about one file at a time.

    Args:
        process: the other side.
        max_pixels: most pixels that a reply may announce.
        free: called when the process is idle again. died: called when it has ended.
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
        self.job: Job | None = None
        self.began = self.sign = time.monotonic()
        """When it got its job, and when it last showed that it works."""
        self._ticks = 0
        self._hung = False
        self._room = bytearray(ROOM)
        self._begun = b""
        self._facts = b""
        self._pixels: ImageArray | None = None
        self._rest: memoryview | None = None
        self._unsent = memoryview(b"")
        """Of the job's file."""
        self._full = False
        """What was sent is not read yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def ask(self, job: Job) -> None:
        """Send a file to the idle process. Cancel the job's reply to give it up."""
        self.job, self.began = job, time.monotonic()
        self._unsent = memoryview(job.file)[PIECE:]
        self._transport.writelines([LENGTH.pack(len(job.file)), memoryview(job.file)[:PIECE]])
        self._send()

    def _send(self) -> None:
        while self._unsent and not self._full:
            piece, self._unsent = self._unsent[:PIECE], self._unsent[PIECE:]
            self._transport.write(piece)
        if not self._unsent:
            self._unsent = memoryview(b"")  # an empty end of a file holds all of it

    def pause_writing(self) -> None:
        """Called by the transport."""
        self._full = True

    def resume_writing(self) -> None:
        """Called by the transport: room for more."""
        self._full = False
        self._send()

    def watch(self, most_seconds: float) -> None:
        """End the process if it shows no sign of life, or takes longer than it may."""
        now, ticks = time.monotonic(), _ticks(self.process.pid)
        if ticks != self._ticks:
            self._ticks, self.sign = ticks, now
        if self.job is None:
            return
        self._hung = now - max(self.sign, self.began) > STALL_SECONDS
        if self._hung or now - self.began > most_seconds:
            log.error("decoder_hung", pid=self.process.pid, seconds=now - self.began)
            self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: once the head is known, straight to the pixels' array."""
        return memoryview(self._room) if self._rest is None else self._rest

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self._rest is None:
                self._begin(bytes(memoryview(self._room)[:nbytes]))
            else:
                self._rest = self._rest[nbytes:]
            if self._pixels is not None and not self._rest:
                file = b"" if self.job is None else self.job.file
                self._end(read_picture(self._facts, self._pixels, file))
        except BrokenReply as error:
            log.error("decoder_broken", detail=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        error = DecoderHung if self._hung else DecoderDied
        if not self.ready.done():
            self.ready.set_exception(error(self.process))
            self.ready.exception()  # seen, should the start have been given up
        if self.job is not None and not self.job.reply.done():
            self.job.reply.set_exception(error(self.process))
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
        job, self._pixels, self._rest = self.job, None, None
        if job is None:
            raise BrokenReply("a reply to nothing")
        self.sign, reply = time.monotonic(), job.reply
        self._free(self)
        if reply.done():  # given up meanwhile
            return
        if isinstance(result, Picture):
            reply.set_result(result)
        else:
            reply.set_exception(result)


def _ticks(pid: int) -> int:
    """Processor time of a process, in the kernel's ticks; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
