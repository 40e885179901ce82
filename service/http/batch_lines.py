"""Splits a batch's body into lines as they arrive, each bounded and counted as held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from fastapi import Request

from service.errors import ServiceError, TooLarge, TooLate
from service.gate.arrival import Arrival, HeldBytes

STEP_BYTES = 8 * 1024
"""Cut into lines at once: others have their turn in between."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the batch, or why it cannot be answered; ``number`` counts from 1.

    The reader of a line closes its ``arrival``.
    """

    number: int
    content: bytes | ServiceError
    arrival: Arrival


class Lines:
    """Reads the lines of a request's body.

    Args:
        request: of the batch.
        held: counts the bytes kept.
        limit: most bytes of a line; a longer one is dropped.
        seconds: how long the sender may stay silent.
    """

    def __init__(self, request: Request, held: HeldBytes, limit: int, seconds: float) -> None:
        self._chunks = request.stream()
        self._caller: str = request.state.caller.id
        self._held, self._limit, self._seconds = held, limit, seconds
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._arrival = self._held.open(self._caller)
        self._line, self._long = bytearray(), False
        self._number += 1

    async def read(self) -> AsyncGenerator[Line, None]:
        """Yield each line that is not blank. Stops after an error."""
        try:
            async for piece in self._pieces():
                *ended, rest = piece.split(b"\n")
                for part in ended:
                    if not part.strip() and not self._line and not self._long:
                        self._number += 1  # blank: millions of these take no time
                        continue
                    self._add(part)
                    line = self._end()
                    self._begin()
                    if line.content:
                        yield line
                    else:
                        self._held.close(line.arrival)
                self._add(rest)
            if self._line or self._long:
                line = self._end()
                self._begin()
                yield line
        except ServiceError as error:
            yield Line(self._number, error, self._arrival)
        finally:
            self._held.close(self._arrival)

    async def _pieces(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunk()) is not None:
            for begin in range(0, len(chunk), STEP_BYTES):
                yield chunk[begin : begin + STEP_BYTES]
                await asyncio.sleep(0)

    async def _chunk(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._seconds), self._arrival.awaiting():
                return await anext(self._chunks, None)
        except TimeoutError as error:
            raise _silent(self._seconds) from error

    def _add(self, part: bytes) -> None:
        if self._long:
            return
        if len(self._line) + len(part) > self._limit:
            self._held.shrink(self._arrival, self._arrival.size)
            self._line, self._long = bytearray(), True
            return
        self._held.grow(self._arrival, len(part))
        self._line += part

    def _end(self) -> Line:
        content: bytes | ServiceError = b"" if self._line.isspace() else bytes(self._line)
        if self._long:
            content = _too_long(self._limit)
        return Line(self._number, content, self._arrival)


def _too_long(limit: int) -> ServiceError:
    return TooLarge(
        f"the line has more than {limit} bytes; send a smaller or more compressed image",
        field="body",
        kind="too_many_bytes",
    )


def _silent(seconds: float) -> ServiceError:
    return TooLate(
        f"nothing came for {seconds:g} s; what did not come was not read: send it as another batch",
        field="body",
        kind="deadline",
    )
