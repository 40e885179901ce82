"""``Idempotency-Key``: a request sent again gets the answer it got before.

Answers are kept in memory, for a limited time and up to a limited number. They end with the
process, and replicas do not share them. Errors are not kept: the next try starts afresh.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from service.access.authenticator import ANONYMOUS
from service.errors import Invalid, ServiceError
from service.gate.arrival import Arrival
from service.gate.gate import Gate
from service.http.body import media_type, read_body
from service.http.form_body import read_form

HEADER = "idempotency-key"
LONGEST_KEY = 255
MOST_ANSWERS = 10_000
Reply = Callable[[], Awaitable[Response]]


@dataclass(frozen=True)
class _Kept:
    """A request seen before: its body's fingerprint, and its answer once there is one."""

    fingerprint: bytes
    expires: float
    answer: asyncio.Future[Response | None]


class Replies:
    """The answers given under a key, newest last.

    Args:
        seconds: how long an answer is kept.
        most: how many answers are kept; the oldest go first.
        clock: seconds, monotonic.
    """

    def __init__(
        self, seconds: float, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: bytes, fingerprint: bytes, reply: Reply) -> Response:
        """Give the answer kept under ``key``, or call ``reply()`` and keep what it gives.

        A request that comes while the first is still being answered waits for that answer, and
        tries again if it failed.

        Raises:
            Invalid: the key was used with another body. Whatever ``reply`` raises.
        """
        self._expire()
        while (kept := self._kept.get(key)) is not None:
            if kept.fingerprint != fingerprint:
                raise Invalid(
                    "this 'Idempotency-Key' was used with another body; "
                    "send a new key with each new request",
                    field="Idempotency-Key",
                    kind="idempotency_key_reused",
                )
            given = await asyncio.shield(kept.answer)
            if given is not None:
                return _again(given)
        kept = _Kept(fingerprint, self._clock() + self._seconds, asyncio.Future())
        self._kept[key] = kept
        good: Response | None = None
        try:
            answer = await reply()
            good = answer if answer.status_code == 200 else None
        finally:
            if good is None and self._kept.get(key) is kept:
                del self._kept[key]
            kept.answer.set_result(good)
        return answer

    def _expire(self) -> None:
        """Drop what is too old and, while there are too many, the oldest that are answered."""
        now, excess = self._clock(), len(self._kept) - self._most + 1
        gone: list[bytes] = []
        for key, kept in self._kept.items():
            if kept.expires > now and len(gone) >= excess:
                break
            if kept.answer.done():
                gone.append(key)
        for key in gone:
            del self._kept[key]


def _again(answer: Response) -> Response:
    """A copy of the answer, because the middleware adds headers to each."""
    headers = {"idempotent-replayed": "true"}
    return Response(answer.body, answer.status_code, headers, media_type=answer.media_type)


async def once_per_key(request: Request, reply: Reply) -> Response:
    """Call ``reply()``; under an ``Idempotency-Key`` call it once, and give the same answer again.

    Raises:
        Invalid: the key cannot be used. Whatever ``reply`` raises.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await reply()
    if not 1 <= len(key) <= LONGEST_KEY:
        raise Invalid(
            f"'Idempotency-Key' has {len(key)} characters; send 1 to {LONGEST_KEY}",
            field="Idempotency-Key",
            kind="invalid_field",
        )
    gate: Gate = request.app.state.gate
    replies: Replies = request.app.state.replies
    try:
        async with asyncio.timeout(gate.settings.deadline_seconds):
            with gate.held.body(request.state.caller.id) as arrival:
                request.state.arrival = arrival
                fingerprint = await _read(request, gate, arrival)
                return await replies.get(_owner(request, key), fingerprint, reply)
    except TimeoutError as error:
        raise gate.deadline() from error


def _owner(request: Request, key: str) -> bytes:
    """The key among its caller's own: no caller gets another's answer."""
    caller = request.state.caller.id
    if caller == ANONYMOUS.id:  # open: what stands in front of the service may tell callers apart
        caller = request.headers.get("authorization", "")
    whole = "\0".join((request.url.path, caller, key))
    return hashlib.sha256(whole.encode()).digest()


async def _read(request: Request, gate: Gate, arrival: Arrival) -> bytes:
    """Read the body, leave it in ``request.state.body``, and give its fingerprint."""
    body = await read_body(request, gate.settings.max_body_bytes, arrival)
    request.state.body = body
    sent = request.headers.get("content-type", "")
    kind = media_type(request.headers)
    return await gate.parse(len(body), lambda: _fingerprint(kind, sent, body))


def _fingerprint(kind: str, sent: str, body: bytes) -> bytes:
    """Hash what the body says. Of a form that is its fields: each try has a boundary of its own."""
    digest = hashlib.sha256(kind.encode() + b"\0")
    if kind != "multipart/form-data":
        digest.update(body)
        return digest.digest()
    try:
        form = read_form(sent, body)
    except ServiceError:  # it gets no answer that could be kept
        return b""
    for name, value in form:
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        key = name.encode("utf-8", "surrogatepass")
        digest.update(b"%d %d %d " % (isinstance(value, bytes), len(key), len(data)))
        digest.update(key)
        digest.update(data)
    return digest.digest()
