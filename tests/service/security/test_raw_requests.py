"""Requests that no HTTP client would send, over a real socket: refused, and the service goes on."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from contextlib import asynccontextmanager

import pytest

from service.app import create_app
from service.http.server import Server
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
    "a version to come": (b"GET /metrics HTTP/2.0\r\nHost: gate\r\n\r\n", b"400"),
    "a version gone by": (b"GET /metrics HTTP/0.9\r\nHost: gate\r\n\r\n", b"400"),
    "a version that is none": (b"GET /metrics HTTP/1.2\r\nHost: gate\r\n\r\n", b"400"),
    "a version of two digits": (b"GET /metrics HTTP/1.10\r\nHost: gate\r\n\r\n", b"400"),
    "RTSP": (b"GET /metrics RTSP/1.0\r\nHost: gate\r\n\r\n", b"400"),
    "RTSP without a host": (b"OPTIONS /metrics RTSP/1.0\r\n\r\n", b"400"),
    "ICE": (b"SOURCE /metrics ICE/1.0\r\nHost: gate\r\n\r\n", b"400"),
    "HTTP/2 known beforehand": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "CONNECT": (b"CONNECT gate:80 HTTP/1.1\r\nHost: gate\r\n\r\n", b"400"),
    "CONNECT, a second request hidden in its body": (
        b"CONNECT gate:80 HTTP/1.1\r\nHost: gate\r\nContent-Length: 44\r\n\r\n"
        b"GET /metrics HTTP/1.1\r\nHost: gate\r\n\r\n",
        b"400",
    ),
    "a header after the body": (
        ASK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: KEY\r\n\r\n",
        b"401",
    ),
    "an address of 9,000 bytes": (
        b"GET /metrics?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: gate\r\n\r\n", b"400",
    ),
    "300 headers": (ASK + b"a: b\r\n" * 300 + b"\r\n", b"400"),
    "a length of 5,000 digits": (
        ASK + b"Content-Length: " + b"0" * 5_000 + b"5\r\n\r\nhello",
        b"401",
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


async def sent(port: int, request: bytes, *, end: bool = True) -> bytes:
    """All that comes back for these bytes, after which we say no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if end:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_each_is_refused(engine, bundled, make_key, keys_file):
    key = b"Bearer " + make_key().encode()
    async with listening(engine, bundled(), api_keys_file=keys_file) as port:
        hidden = {name: sent.replace(b"KEY", key) for name, (sent, _) in REFUSED.items()}
        replies = {name: await sent(port, request) for name, request in hidden.items()}
        endless = await sent(port, b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 300_000)
        good = await sent(port, b"GET /readyz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
    for name, (_, status) in REFUSED.items():
        assert replies[name].startswith(b"HTTP/1.1 " + status), (name, replies[name][:200])
        assert replies[name].count(b"HTTP/1.1 ") == 1, name
    # Cut off while it still sends, it may not get to read its answer.
    assert endless == b"" or endless.startswith(b"HTTP/1.1 400")
    assert good.startswith(b"HTTP/1.1 200")


GOOD = b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n"
AFTER = {
    "words": b"HELLO\r\n\r\n",
    "zeros": bytes(64),
    "a frame of a websocket": b"\x81\x85\x00\x00\x00\x00hello",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a body that nobody announced": b'{"question": "q"}',
    "half a head, then words": b"GET /healthz HTTP/1.1\r\nHost: gate\r\n \r\n\r\n",
}


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("held", [False, True], ids=["answered", "being answered"])
async def test_what_follows_and_is_no_request_closes_the_connection(
    engine, bundled, png, name, held
):
    """The answer that is owed comes first, alone or before a 400, and nothing after it."""
    body = json.dumps({"question": "q", "image": base64.b64encode(png).decode()}).encode()
    ask = ASK.replace(b"gate", b"localhost") + b"Content-Type: application/json\r\n"
    request = ask + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    async with listening(engine, bundled(), records_url="") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if held:
            engine.hold()
            writer.write(request)
            async with asyncio.timeout(20):
                while engine._open == 0:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0)
            writer.write(AFTER[name] + GOOD)
            await writer.drain()
            await asyncio.sleep(0.05)
            engine.release()
        else:
            writer.write(request)
            told = await reader.readuntil(b"\r\n\r\n")
            length = int(told.partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(AFTER[name] + GOOD)
        told = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    statuses = [line.split()[1] for line in told.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == ([b"200"] if held else [b"400"])
    assert b'"live"' not in told


async def test_more_requests_at_once_than_are_kept_waiting_are_not_read(engine, bundled):
    async with listening(engine, bundled()) as port:
        told = await sent(port, GOOD * 500, end=False)
        last = GOOD.replace(b"gate\r\n", b"gate\r\nConnection: close\r\n")
        good = await sent(port, GOOD * 19 + last, end=False)
    assert told.count(b"HTTP/1.1 200") < 500
    assert good.count(b"HTTP/1.1 200") == 20


async def test_the_end_of_a_body_may_bring_the_next_head_along(engine, bundled):
    """The answer came before the body was sent; its end and the next request come in one piece."""
    head = b"POST /nowhere HTTP/1.1\r\nHost: gate\r\nContent-Length: 200000\r\n\r\n"
    async with listening(engine, bundled(), records_url="") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + bytes(150_000))
        early = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        length = int(early.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(bytes(50_000) + GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        told = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert early.startswith(b"HTTP/1.1 404")
    assert told.startswith(b"HTTP/1.1 200")
