"""The process that decodes images, so that a hostile one takes nothing else down with it.

:mod:`service.images.pool` starts it as ``python -m service.images.process`` with one end of a
socket. It imports numpy, Pillow and what decoding needs. An alarm kills it if a file takes too much
processor time, and a limit makes a file fail that takes too much memory. It ends when the service
closes its end of the socket.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from pathlib import Path

from service.errors import Invalid, ServiceError
from service.images.decode import decode_image
from service.images.wire import HEAD, LENGTH, facts_of, words_of

BYTES_PER_PIXEL = 32
"""Of working memory: a few copies at four bytes, and twice that for formats that need more."""
NICENESS = 5
"""Below the service: whatever is decoded, it answers others."""
SPARE_BYTES = 256 * 2**20


def main() -> None:
    """Decode until the service is gone. Arguments: descriptor, most bytes, most pixels, seconds."""
    descriptor, max_bytes, max_pixels = map(int, sys.argv[1:4])
    seconds = float(sys.argv[4])
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the service, told to end, still needs it
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(NICENESS)
    _limit_memory(BYTES_PER_PIXEL * max_pixels + 4 * max_bytes + SPARE_BYTES)
    with socket.socket(fileno=descriptor) as service:
        service.sendall(b"\0")  # ready
        while (head := _receive(service, LENGTH.size)) is not None:
            file = _receive(service, LENGTH.unpack(head)[0])
            if file is None:
                return
            signal.setitimer(signal.ITIMER_PROF, seconds)
            reply = _reply(bytes(file), max_bytes, max_pixels)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(service, reply)


def _reply(file: bytes, max_bytes: int, max_pixels: int) -> list[memoryview]:
    try:
        decoded = decode_image(file, max_bytes, max_pixels)
        pixels, facts = decoded.pixels, facts_of(file, decoded)
        head = HEAD.pack(True, *pixels.shape[:2], len(facts))
        return [memoryview(head + facts), pixels.data.cast("B")]
    except ServiceError as error:
        words = words_of(error)
    except MemoryError:
        words = words_of(
            Invalid(
                "the image takes too much memory to decode; send it in another format",
                field="image",
                kind="undecodable_image",
            )
        )
    return [memoryview(HEAD.pack(False, 0, 0, len(words)) + words)]


def _receive(service: socket.socket, size: int) -> bytearray | None:
    """Read ``size`` bytes; None if the service is gone."""
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        try:
            count = service.recv_into(rest)
        except ConnectionError:
            return None
        if count == 0:
            return None
        rest = rest[count:]
    return data


def _send(service: socket.socket, parts: list[memoryview]) -> None:
    sent = service.sendmsg(parts)
    for part in parts:
        if sent < len(part):
            service.sendall(part[sent:])
        sent = max(0, sent - len(part))


def _limit_memory(more_bytes: int) -> None:
    """Allow so much memory beyond what the process takes now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
