"""A pool of processes that decode images, one each at a time. One that dies or hangs is replaced.

Callers take turns, and one caller never holds the last decoder: whatever it sends, another's image
finds a free one. Every second a watch asks idle decoders for a sign of life, and checks that busy
ones still work. One that gives no sign is killed, and its image goes to another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, OrderedDict, deque

import structlog

from service.errors import Invalid
from service.images.decode import check_beginning
from service.images.decoder import Decoder, DecoderDied, DecoderHung, Job
from service.images.picture import Picture

log = structlog.get_logger("service.images.pool")
IMAGE_SECONDS = 10.0
"""Most processor time at one image: 2.6 times what the slowest found takes, a TIFF with 3.8 s."""
WALL_FACTOR = 3
"""Times as long an image may take by the clock, on a machine that others keep busy."""
WATCH_SECONDS = 1.0
"""Between two looks at the decoders."""
SILENT_SECONDS = 2.0
"""Without a sign from any decoder the service is not ready."""
START_SECONDS = 20.0
PAUSE_SECONDS = 1.0
"""Before another is started in the place of one that could not be."""
WATCH = "\0watch"
"""The caller of an empty file, which a decoder that works refuses at once."""
TRIES = 2
"""A decoder may have been killed by somebody else; the image that two die of is refused."""


class DecodersError(Exception):
    """A decoding process could not be started."""


class Decoders:
    """A pool of processes.

    Args:
        count: of processes; each decodes one image at a time.
        max_bytes: most bytes of a file. max_pixels: most pixels of an image.
        image_seconds: most processor time at one image.
    """

    def __init__(
        self, count: int, max_bytes: int, max_pixels: int, image_seconds: float = IMAGE_SECONDS
    ) -> None:
        self._count, self._max_bytes, self._max_pixels = count, max_bytes, max_pixels
        self._arguments = [str(max_bytes), str(max_pixels), str(image_seconds)]
        self._idle: list[Decoder] = []
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()
        """What waits, by caller; the caller whose turn it is first."""
        self._held: Counter[str] = Counter()
        """Decoders that work for a caller."""
        self._most_seconds = WALL_FACTOR * image_seconds
        self._watcher: asyncio.Task[None] | None = None
        self._processes: set[subprocess.Popen[bytes]] = set()
        """All that were begun and have not been waited for."""
        self._running: set[Decoder] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Start all processes at once. Raises DecodersError."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._start())
        except* DecodersError as failed:
            await self.close()
            raise failed.exceptions[0] from None
        self._watcher = asyncio.create_task(self._watch())

    @property
    def working(self) -> bool:
        """Whether any decoder gave a sign of life lately."""
        now = time.monotonic()
        return any(now - decoder.sign <= SILENT_SECONDS for decoder in self._running)

    async def decode(self, file: bytes, caller: str = "") -> Picture:
        """Decode a file. If this is cancelled, the process is idle again after the image.

        Args:
            caller: whose turn the file takes.

        Raises:
            Invalid: also for an image that kills decoders. The rest as
                :func:`service.images.decode.decode_image`.
        """
        check_beginning(file, self._max_bytes)
        died = 0
        while died < TRIES:
            job = Job(file, caller, asyncio.get_running_loop().create_future())
            self._lines.setdefault(caller, deque()).append(job)
            self._assign()
            try:
                return await job.reply
            except DecoderHung:
                continue
            except DecoderDied as error:
                code = await asyncio.to_thread(error.process.wait)
                died += TRIES if code == -signal.SIGPROF else 1
            finally:
                self._forget(job)
                del job  # its error would hold it, and the file, in a circle
        raise Invalid(
            "the image takes too long to decode, or breaks the decoder; send it in another format",
            field="image",
            kind="undecodable_image",
        )

    async def close(self) -> None:
        """End all processes, also those that are only beginning or ending."""
        self._closing = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        for decoder in self._running:
            decoder.close()
        for process in list(self._processes):
            process.kill()
            await self._end(process)
        self._running.clear()

    async def _end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a process to end; returns its exit status."""
        code = await asyncio.to_thread(process.wait)
        self._processes.discard(process)
        return code

    async def _start(self) -> None:
        """Start one more process. Cancelled or not, what was begun is among the processes."""
        ours, theirs = socket.socketpair()
        with theirs:
            work = asyncio.to_thread(_spawn, theirs.fileno(), self._arguments)
            spawning = asyncio.create_task(work)
            try:
                process = await asyncio.shield(spawning)
            except OSError as error:
                ours.close()
                raise DecodersError(f"no process can be started: {error}") from error
            except asyncio.CancelledError:
                ours.close()
                self._processes.add(await spawning)  # a thread cannot be called back
                raise
        self._processes.add(process)
        _, decoder = await asyncio.get_running_loop().create_unix_connection(
            lambda: Decoder(process, self._max_pixels, self._free, self._lost),
            sock=ours,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await decoder.ready
        except (TimeoutError, DecoderDied) as error:
            decoder.close()
            code = await self._end(process)
            raise DecodersError(f"a process that decodes images ended with {code}") from error
        decoder.sign = time.monotonic()
        self._running.add(decoder)
        self._free(decoder)

    def _free(self, decoder: Decoder) -> None:
        """Give the decoder its next file at once, before the reply to the last one is handled."""
        self._release(decoder)
        self._idle.append(decoder)
        self._assign()

    def _release(self, decoder: Decoder) -> None:
        if decoder.job is not None:
            self._held -= Counter([decoder.job.caller])  # who holds none is forgotten
            decoder.job = None

    def _assign(self) -> None:
        """Give waiting files to idle decoders, callers in turn."""
        while self._idle and (job := self._next()) is not None:
            self._held[job.caller] += 1
            self._idle.pop().ask(job)

    def _next(self) -> Job | None:
        """The next file in turn, of a caller that may hold one more decoder."""
        most = max(1, self._count - 1)
        caller = next((caller for caller in self._lines if self._held[caller] < most), None)
        if caller is None:
            return None
        line = self._lines.pop(caller)
        job = line.popleft()
        if line:
            self._lines[caller] = line  # to the end
        return job

    def _forget(self, job: Job) -> None:
        """Remove a job that was given up from its line."""
        line = self._lines.get(job.caller)
        if line is not None and job in line:
            line.remove(job)
            if not line:
                del self._lines[job.caller]

    async def _watch(self) -> None:
        """Ask idle decoders for a sign of life, and check that busy ones work."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for decoder in self._idle[:]:
                self._idle.remove(decoder)
                ping = Job(b"", WATCH, asyncio.get_running_loop().create_future())
                ping.reply.add_done_callback(_ignore)
                self._held[WATCH] += 1
                decoder.ask(ping)
            for decoder in list(self._running):
                decoder.watch(self._most_seconds)

    def _lost(self, decoder: Decoder) -> None:
        if self._closing or decoder not in self._running:  # never ready: who starts it knows
            return
        self._running.discard(decoder)
        self._release(decoder)
        if decoder in self._idle:
            self._idle.remove(decoder)
        task = asyncio.create_task(self._replace(decoder))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, decoder: Decoder) -> None:
        decoder.close()
        code = await self._end(decoder.process)
        log.error("decoder_died", code=code)
        while True:
            try:
                return await self._start()
            except DecodersError as error:
                log.error("decoder_not_started", detail=str(error))
                await asyncio.sleep(PAUSE_SECONDS)


def _ignore(reply: asyncio.Future[Picture]) -> None:
    """Read the reply to the watch's question, so that no error goes unread."""
    if not reply.cancelled():
        reply.exception()


def _spawn(descriptor: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a process on the code that this one runs, never on the current folder's."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "service.images.process", str(descriptor), *arguments],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
