"""HTTP/1.1 on one connection: llhttp parses it (fast, in C); what llhttp lets by is refused here.

A 400 (RFC 9112) goes to: no ``Host`` or two, another protocol than HTTP/1.0 or 1.1, another
transfer encoding than ``chunked``, ``CONNECT``, a head of more than :data:`HEAD_BYTES` or
:data:`HEAD_LINES`, an address of more than :data:`URL_BYTES`, a body in crumbs. A head that is not
here after :data:`HEAD_SECONDS` gets a 408. If the answer did not wait for the body, the rest of it
has :data:`REST_SECONDS` to arrive; otherwise whatever reads the body sets its deadline.

``Upgrade`` is ignored (RFC 9110, 7.8): the body is read as announced. Bytes after a message that
are no request close the connection, once the answers still owed are sent.

All this leans on private parts of uvicorn, so it runs only on the versions it was tested with.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Task, TimerHandle, Transport
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.http.request_log import CLIENT_GONE

TESTED = "0.54."
"""Versions of uvicorn that begin so have the inner parts that this file changes."""
if not uvicorn.__version__.startswith(TESTED):
    raise ImportError(
        f"uvicorn {uvicorn.__version__}: requests are read by its inner parts, tested with "
        f"{TESTED}x only; install what constraints.txt names: pip install 'uvicorn=={TESTED}*'"
    )

HEAD_BYTES = 64 * 1024
"""Most bytes of a request's line and headers, of a chunk's header, and of what follows a body."""
HEAD_LINES = 256
URL_BYTES = 8 * 1024
PIPELINED = 32
"""Most requests of a connection that wait for the one before."""
CRUMBS, CRUMB_BYTES = 4096, 32
"""A body may come in so many chunks, and in more only of so many bytes each in the mean."""
HEAD_SECONDS = 10.0
REST_SECONDS = 10.0
PAUSE_SECONDS = 0.1
"""Between two pieces of a body that its answer did not wait for: nobody is in a hurry for it."""
HELD_BYTES = 64 * 1024


class OneWrite:
    """A transport that sends what one turn of the event loop writes, head and body, in one piece.

    Every write wakes the reader up, and that takes longer than making the response.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Hold the data until this turn of the loop ends, or until :data:`HELD_BYTES` are held."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._bytes += len(data)
        if self._bytes > HELD_BYTES:
            self.flush()

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what is held."""
        held, self._held, self._bytes = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class RefusedHead(Exception):
    """The head is refused. The parser makes this its own error, and uvicorn makes that a 400."""


class StrictProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unread = 0
        """Bytes since something was understood: the parser keeps them, so they are bounded."""
        self._head = self._lines = 0
        self._raw = b""
        """What came since the last head was whole, for what the parser does not tell of a head."""
        self._chunks = self._received = 0
        self._resuming = False
        """A parser is being told how the body is framed whose head another one ended at."""
        self._deaf = False
        """What comes is no request: it is not looked at."""
        self._arriving = True
        """A head is awaited or on its way."""
        self._whole = True
        """The request that came last is here to its end."""
        self._limit: TimerHandle | None = None
        self._work: Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._limit = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to read an answer, so give up the work on it."""
        super().connection_lost(exc)
        self._lift()
        if self._work is not None and not self._work.done():
            self._work.cancel(CLIENT_GONE)

    def eof_received(self) -> None:
        """Nothing more will come. The transport closes itself after this."""
        self.transport.flush()  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Parse the data; end the connection if that fails."""
        if self._deaf:
            return
        self._unread += len(data)
        self._unset_keepalive_if_required()
        self._raw = self._raw[-HEAD_BYTES:] + data  # a body's end may bring the next head along
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._end(400, "This is no HTTP request that can be read.")
            return
        if not self._arriving:
            self._raw = b""
        if self.transport.is_closing():
            return
        if not self._whole and not self._arriving and self.cycle.response_complete:
            self.flow.pause_reading()
            self.loop.call_later(PAUSE_SECONDS, self.flow.resume_reading)
        if self._unread > HEAD_BYTES:
            self._end(400, "The request's head is too large.")
        elif self._limit is None and (self._arriving or self._idle):
            self._limit = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _parse(self, data: bytes) -> None:
        """Feed the parser. At a head with an upgrade it stops, and another one goes on."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as ended:
            self._resume()
            if rest := data[ended.args[0] :]:
                self._parse(rest)

    def _resume(self) -> None:
        """Start a new parser where the body begins of the request whose head was just read."""
        framing = [
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name in (b"content-length", b"transfer-encoding")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._resuming = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        self._resuming = False

    def _end(self, status: int, told: str) -> None:
        """Stop reading. Answers still owed come first, and nothing follows one that has begun."""
        self._deaf = True
        self._lift()
        owed = self.cycle is not None and not self.cycle.response_complete
        if owed and (self._whole or self._arriving):
            self.cycle.keep_alive = False  # the last that was asked is the last to be answered
            return
        if not owed or not self.cycle.response_started:
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n%b" % (len(told), told.encode())
            )
        self.transport.close()

    def on_message_begin(self) -> None:
        if self._resuming:
            return
        super().on_message_begin()
        self._unread = self._head = self._lines = self._chunks = self._received = 0
        self._arriving, self._whole = True, False

    def on_url(self, url: bytes) -> None:
        if self._resuming:
            return
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            raise RefusedHead("address too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._resuming:
            return
        self._head += len(name) + len(value)
        self._lines += 1
        if self._head > HEAD_BYTES or self._lines > HEAD_LINES:
            raise RefusedHead("too large")
        if self._arriving:  # what follows a body is no header of the request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._resuming:
            return
        self._check_head()
        if not self.url.startswith(b"/"):
            self.url = b"/" + self.url  # whatever it is, it is no path of ours
        self._arriving = False
        self._lift()
        super().on_headers_complete()
        self._unread = 0

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._received += len(body)
        self._unread = max(0, self._unread - len(body))

    def on_chunk_complete(self) -> None:
        """Called by the parser."""
        self._unread = 0
        self._chunks += 1
        if self._chunks > CRUMBS and self._chunks * CRUMB_BYTES > self._received:
            raise RefusedHead("a body in crumbs")

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the head is complete, its message is not
        super().on_message_complete()
        self._unread = 0
        self._whole = True
        if self.cycle.response_complete:
            self._lift()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole and not self.transport.is_closing():
            self._limit = self.loop.call_later(REST_SECONDS, self.transport.close)

    @property
    def _idle(self) -> bool:
        """Whether no request is open although bytes came: a line end, say, keeps nothing alive."""
        done = self.cycle is not None and self.cycle.response_complete
        return self._whole and done and self.timeout_keep_alive_task is None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._work = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _check_head(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if method == b"CONNECT" or len(self.pipeline) >= PIPELINED:
            raise RefusedHead("not served")
        # The parser also takes RTSP/1.0 and ICE/1.0, and tells of neither.
        if b"%b %b HTTP/%b\r\n" % (method, self.url, version.encode()) not in self._raw:
            raise RefusedHead("protocol")
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if version not in ("1.0", "1.1") or hosts > 1 or (hosts == 0 and version == "1.1"):
            raise RefusedHead("version or host")
        if b"transfer-encoding" in names:
            encodings = [
                value.lower() for name, value in self.headers if name == b"transfer-encoding"
            ]
            if encodings != [b"chunked"] or version == "1.0":
                raise RefusedHead("transfer encoding")

    def _too_slow(self) -> None:
        """End a connection whose head is late, without a word if it sent nothing."""
        if self.transport.is_closing():
            return
        if self._whole:
            self.transport.close()
        else:
            self._end(408, "The request's head did not come in time.")

    def _lift(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
