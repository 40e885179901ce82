"""How often a large body is held in memory, while it is read and after its answer."""

from __future__ import annotations

import base64
import gc
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(4_500_000)
"""Refused by who decodes it, after all of it was read."""
TEXT = base64.b64encode(IMAGE)
CHAT = (
    b'{"model": "fake", "messages": [{"role": "user", "content": [{"type": "text", "text": "a?"}, '
    b'{"type": "image_url", "image_url": {"url": "data:image/png;base64,%b"}}]}]}'
)
FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="question"\r\n\r\na?\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
)
JSON = "application/json"
BODIES: dict[str, tuple[str, str, bytes]] = {
    "base64": ("/v1/answer", JSON, b'{"question": "a?", "image": "%b"}' % TEXT),
    "a data URI": (
        "/v1/answer", JSON, b'{"image": "data:image/png;base64,%b", "question": "a?"}' % TEXT,
    ),
    "chat": ("/v1/chat/completions", JSON, CHAT % TEXT),
    "a form": (
        "/v1/answer", "multipart/form-data; boundary=xyz", FORM + IMAGE + b"\r\n--xyz--\r\n",
    ),
}  # fmt: skip
MOST_BODIES = 2.25
"""Held at once, in sizes of the body: the body itself, and what is made of it."""
MOST_KEPT = 0.1
TRIES = 3
"""The thread that has read a body lets go of it a little later than the next one begins."""


def send(port: int, path: str, kind: str, body: bytes, key: str | None) -> bytes:
    """Send a request and give the answer."""
    more = "" if key is None else f"Idempotency-Key: {key}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        wire.sendall(head.encode())
        wire.sendall(body)
        return b"".join(iter(lambda: wire.recv(65536), b""))


@contextmanager
def traced() -> Iterator[None]:
    """Nothing is collected meanwhile: what lies in circles is held."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("key", [None, "k"], ids=["plain", "under a key"])
def test_few_copies_of_a_large_body_are_held(live, key):
    found: dict[str, tuple[float, float]] = {}
    with live(records_url="", decode_processes=1) as service:
        port = int(service.url.rpartition(":")[2])
        for name, (path, kind, body) in BODIES.items():
            send(port, path, kind, body[:100], "first")  # what is imported at first is imported
            for _ in range(TRIES):
                with traced():
                    told = send(port, path, kind, body, key)
                    kept, peak = tracemalloc.get_traced_memory()
                assert b"too_many_parts" in told, (name, told)
                found[name] = round(peak / len(body), 2), round(kept / len(body), 2)
                if found[name] <= (MOST_BODIES, MOST_KEPT):
                    break
    print(found)
    assert {name: peak for name, (peak, _) in found.items() if peak > MOST_BODIES} == {}
    assert {name: kept for name, (_, kept) in found.items() if kept > MOST_KEPT} == {}
