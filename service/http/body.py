"""Reads a request's body and parses it as a question. It checks sizes before it parses anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from service.errors import Invalid, Malformed, ServiceError, TooLarge, UnsupportedType
from service.gate.arrival import Arrival
from service.gate.ask import Ask
from service.gate.gate import Gate
from service.http.form_body import Field, read_form
from service.http.json_body import read_json, read_model
from service.http.translate import to_ask
from service.images.data_uri import decode_base64, is_url
from service.schemas.answer import AnswerOptions, AnswerRequest

SMALL_BODY_BYTES = 16 * 1024
DISCARD_FACTOR = 4
"""A body over the limit is read and thrown away up to this multiple, so that its sender gets to
read the answer instead of a broken connection."""
CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252", "cp1252")
"""What browsers and HTTP clients send. Python knows others that take for ever (punycode), unfold
(zip) or make texts of what is none (utf-7)."""
TYPE_CHARACTERS = 512


def media_type(headers: Headers) -> str:
    """The body's type, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_headers(headers: Headers) -> None:
    """Refuse a body by its headers alone. Raises UnsupportedType, Malformed."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedType(
            f"a body in the encoding {encoding[:32]!r} is not read; send it as it is",
            field="Content-Encoding",
            kind="unsupported_encoding",
        )
    kind = headers.get("content-type", "")
    if len(kind) > TYPE_CHARACTERS or len(headers.getlist("content-type")) > 1:
        raise Malformed(
            f"Content-Type is sent twice or longer than {TYPE_CHARACTERS} characters; send one",
            field="Content-Type",
            kind="invalid_header",
        )
    for parameter in kind.split(";")[1:]:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip("\"'").lower()
        if name.strip().lower().rstrip("*").startswith("charset") and charset not in CHARSETS:
            raise UnsupportedType(
                f"texts in the charset {charset[:32]!r} are not read; send UTF-8",
                field="Content-Type",
                kind="unsupported_charset",
            )


async def read_body(request: Request, limit: int, arrival: Arrival | None = None) -> bytes:
    """Read the whole body, and keep at most ``limit`` bytes of it.

    If it was read before, it lies in ``request.state.body``, and this takes it from there.

    Args:
        arrival: counts the bytes kept; small bodies need none.

    Raises:
        TooLarge, Malformed, UnsupportedType: the body is refused.
        Overloaded: it came slowly, and others need the room.
    """
    if "body" in request.scope["state"]:
        return take_body(request)
    check_headers(request.headers)
    announced = _announced(request.headers)
    most = DISCARD_FACTOR * limit
    if announced > most or (announced > limit and "expect" in request.headers):
        raise _too_large(limit)
    if arrival is not None:
        request.app.state.gate.held.check(arrival.caller, min(announced, limit))
    try:
        if arrival is None:
            body = await _receive(request, limit, None)
        else:
            async with arrival.awaiting():
                body = await _receive(request, limit, arrival)
    except ClientDisconnect as gone:
        raise Malformed(
            "the body ended early; send all of it", field="body", kind="disconnected"
        ) from gone
    if body is None:
        raise _too_large(limit)
    return body


def take_body(request: Request) -> bytes:
    """Take the body out of ``request.state.body``: nothing else holds it after that."""
    body: bytes = request.scope["state"].pop("body")
    return body


async def read_small_body(request: Request, gate: Gate) -> bytes:
    """Read a body without an image, in time. Raises as :func:`read_body`, and TooLate."""
    try:
        async with asyncio.timeout(gate.settings.deadline_seconds):
            return await read_body(request, SMALL_BODY_BYTES)
    except TimeoutError as error:
        raise gate.deadline() from error


async def _receive(request: Request, limit: int, arrival: Arrival | None) -> bytes | None:
    """Collect the body in one buffer that grows; None if it has more than ``limit`` bytes."""
    held = request.app.state.gate.held
    body = BytesIO()
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total <= limit:
            if arrival is not None:
                held.grow(arrival, len(chunk))
            body.write(chunk)
        elif total > DISCARD_FACTOR * limit:
            return None
        elif body.tell():
            body = BytesIO()
            if arrival is not None:
                held.shrink(arrival, arrival.size)
    return None if total > limit else body.getvalue()  # its own buffer, without a copy


def _announced(headers: Headers) -> int:
    """Content-Length as a number. The server has checked that it is one."""
    digits = headers.get("content-length", "0").lstrip("0")[:19]
    return int(digits) if digits.isdecimal() else 0


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body has more than {limit} bytes; send a smaller or more compressed image",
        field="body",
        kind="too_many_bytes",
    )


async def parse_ask(request: Request, gate: Gate) -> Ask:
    """Parse and decode the body in ``request.state.body``, which is gone once it is parsed.

    Raises Malformed, TooLarge, UnsupportedType and Invalid.
    """
    kind = media_type(request.headers)
    size = len(request.state.body)
    if not size:
        raise Malformed(
            "the body is empty; send a question and an image", field="body", kind="empty_body"
        )
    if kind == "application/json":
        asked = await gate.parse(size, lambda: read_model(AnswerRequest, take_body(request)))
        return await ask_of(asked, gate, request.state.caller.id)
    if kind == "multipart/form-data":
        sent = request.headers["content-type"]
        options, data = await gate.parse(size, lambda: from_form(sent, take_body(request)))
        return to_ask(options, await gate.decode(data, request.state.caller.id), gate.rules)
    raise UnsupportedType(
        f"the body's type {kind!r} is not read; send application/json or multipart/form-data",
        field="Content-Type",
        kind="unsupported_body",
    )


async def ask_of(asked: AnswerRequest, gate: Gate, caller: str) -> Ask:
    """Fetch or decode the image of a parsed request, and make the question of both.

    Raises TooLarge, UnsupportedType, Invalid.
    """
    text, limit = asked.image, gate.settings.max_image_bytes
    if is_url(text):
        data = await gate.image_urls.fetch(text)
    else:
        data = await gate.parse(len(text), partial(decode_base64, text, limit))
    del text, asked.image  # the largest that is held, while others have their turn to be decoded
    return to_ask(asked, await gate.decode(data, caller), gate.rules)


def from_form(content_type: str, body: bytes) -> tuple[AnswerOptions, bytes]:
    """The options, and the image's bytes. Raises Malformed and Invalid."""
    fields, data = _form(read_form(content_type, body))
    if "metadata" in fields:
        fields["metadata"] = _metadata(fields["metadata"])
    try:
        return AnswerOptions.model_validate_strings(fields), data
    except ValidationError as error:
        raise Invalid.from_validation(error) from error


def _metadata(text: str) -> Any:
    try:
        return read_json(text.encode())
    except (Malformed, UnicodeEncodeError) as error:
        raise Invalid(
            '\'metadata\' is not JSON; send an object such as {"line": "3"}',
            field="metadata",
            kind="invalid_field",
        ) from error


def _form(form: Sequence[Field]) -> tuple[dict[str, Any], bytes]:
    """The text fields, and the image's bytes."""
    fields: dict[str, Any] = {}
    data: bytes | None = None
    for name, value in form:
        shown = name[:64].encode("utf-8", "replace").decode()
        if name in fields or (name == "image" and data is not None):
            raise _invalid(shown, "was sent twice; send it once")
        if name == "image":
            if isinstance(value, str):
                raise _invalid(name, "came as text; send it as a file (curl: -F image=@plate.png)")
            data = value
        elif isinstance(value, bytes):
            raise _invalid(shown, "is a file; the one file that is read is 'image': send that")
        elif shown != name:
            raise _invalid(shown, "is not an option; remove it (GET /docs lists the options)")
        else:
            fields[name] = value
    if data is None:
        raise _invalid("image", "is missing; send the picture as the file 'image'")
    return fields, data


def _invalid(field: str, why: str) -> ServiceError:
    return Invalid(f"'{field}' {why}", field=field, kind="invalid_field")
