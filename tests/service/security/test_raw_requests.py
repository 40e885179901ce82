"""Requests that no HTTP client would send, over a real socket: refused, and the service goes on."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from service.app import create_app
from service.server import Server
from service.settings import Settings

pytestmark = pytest.mark.anyio
ASK = b"POST /v1/answer HTTP/1.1\r\nHost: gate\r\n"

REFUSED: dict[str, tuple[bytes, bytes]] = {
    "no host": (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),
    "two hosts": (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
    "no protocol": (b"GET /metrics\r\nHost: gate\r\n\r\n", b"400"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    "NUL in a header": (b"GET /metrics HTTP/1.1\r\nHost: gate\r\nX: a\0b\r\n\r\n", b"400"),
    "blank before a colon": (ASK + b"Content-Length : 5\r\n\r\nhello", b"400"),
    "two lengths": (ASK + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello", b"400"),
    "negative length": (ASK + b"Content-Length: -5\r\n\r\n", b"400"),
    "length that is no number": (ASK + b"Content-Length: 0x5\r\n\r\nhello", b"400"),
    "length with a plus": (ASK + b"Content-Length: +5\r\n\r\nhello", b"400"),
    "two encodings": (ASK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"400"),
    "misspelt encoding": (ASK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", b"400"),
    "absolute address of an open path": (
        b"GET http://gate/metrics HTTP/1.1\r\nHost: gate\r\n\r\n",
        b"401",
    ),
    "line break in the path": (b"GET /v1/policy%0d%0a HTTP/1.1\r\nHost: gate\r\n\r\n", b"401"),
    "length and chunks, a second request hidden behind": (
        ASK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: gate\r\n\r\n",
        b"400",
    ),
}  # fmt: skip


@asynccontextmanager
async def listening(engine, bundle, **settings):
    """The service on a real socket; gives its port."""
    made = Settings(engine="fake", **settings)
    app = create_app(made, engine, bundle)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = Server(app, made)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        await app.state.gate.tested.wait()
        yield bound.getsockname()[1]
        server.should_exit = True
        await serving


async def sent(port: int, request: bytes) -> bytes:
    """All that comes back for these bytes, after which we say no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_each_is_refused(engine, bundled, make_key, keys_file):
    make_key()
    async with listening(engine, bundled(), api_keys_file=keys_file) as port:
        replies = {name: await sent(port, request) for name, (request, _) in REFUSED.items()}
        endless = await sent(port, b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 300_000)
        good = await sent(port, b"GET /readyz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
    for name, (_, status) in REFUSED.items():
        assert replies[name].startswith(b"HTTP/1.1 " + status), (name, replies[name][:200])
        assert replies[name].count(b"HTTP/1.1 ") == 1, name
    # Cut off while it still sends, it may not get to read its answer.
    assert endless == b"" or endless.startswith(b"HTTP/1.1 400")
    assert good.startswith(b"HTTP/1.1 200")
