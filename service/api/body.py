"""A request's body -> an Ask: sizes are checked before anything is parsed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from service.errors import Invalid, Malformed, TooLarge, UnsupportedType
from service.gate import Gate
from service.image_urls import is_url
from service.images import decode_base64
from service.pipeline import Ask
from service.schemas import AnswerOptions, AnswerRequest

FORM_FIELDS = 16
DISCARD_FACTOR = 4
"""A body over the limit is read and thrown away up to this multiple, so that its sender gets to
read the answer instead of a broken connection."""


class _InMemory(MultiPartParser):
    """Keeps uploads in memory, which the body's limit bounds: no image ever touches the disk."""

    spool_max_size = 1 << 40


async def read_body(request: Request, limit: int) -> bytes:
    """All bytes of the body, of which at most ``limit`` are kept. Raises TooLarge, Malformed.

    A body that was read before lies in ``request.state.body``.
    """
    held: bytes | None = getattr(request.state, "body", None)
    if held is not None:
        return held
    error = TooLarge(
        f"the body has more than {limit} bytes; send a smaller or more compressed image",
        field="body",
        kind="too_many_bytes",
    )
    announced = int(request.headers.get("content-length", 0))
    most = DISCARD_FACTOR * limit
    if announced > most or (announced > limit and "expect" in request.headers):
        raise error
    chunks: list[bytes] = []
    total = 0
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total <= limit:
                chunks.append(chunk)
            elif total <= most:
                chunks.clear()
            else:
                break
    except ClientDisconnect as gone:
        raise Malformed(
            "the body ended early; send all of it", field="body", kind="disconnected"
        ) from gone
    if total > limit:
        raise error
    return b"".join(chunks)


async def parse_ask(request: Request, body: bytes, gate: Gate) -> Ask:
    """Parse and decode a body. Raises Malformed, TooLarge, UnsupportedType and Invalid."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        raise Malformed(
            "the body is empty; send a question and an image", field="body", kind="empty_body"
        )
    if kind == "application/json":
        asked = await gate.parse(len(body), lambda: _from_json(body))
        return await ask_of(asked, gate, request.state.caller.id)
    if kind == "multipart/form-data":
        form = await _parse_form(request, body)
        try:
            fields, data = _form(form)
        finally:
            await form.close()
        options = await gate.parse(len(body) - len(data), lambda: _from_form(fields))
        return options.to_ask(await gate.decode(data, request.state.caller.id), gate.rules)
    raise UnsupportedType(
        f"the body's type {kind!r} is not read; send application/json or multipart/form-data",
        field="Content-Type",
        kind="unsupported_body",
    )


async def ask_of(asked: AnswerRequest, gate: Gate, caller: str) -> Ask:
    """Get and decode the image of a caller's request that was parsed.

    Raises TooLarge, UnsupportedType, Invalid.
    """
    text, limit = asked.image, gate.settings.max_image_bytes
    if is_url(text):
        data = await gate.image_urls.fetch(text)
    else:
        data = await gate.parse(len(text), lambda: decode_base64(text, limit))
    return asked.to_ask(await gate.decode(data, caller), gate.rules)


def _from_json(body: bytes) -> AnswerRequest:
    try:
        return AnswerRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise Invalid.from_validation(error) from error


def _from_form(fields: dict[str, Any]) -> AnswerOptions:
    try:
        if "metadata" in fields:
            fields["metadata"] = json.loads(fields["metadata"])
        return AnswerOptions.model_validate_strings(fields)
    except ValidationError as error:
        raise Invalid.from_validation(error) from error
    except (ValueError, RecursionError) as error:
        raise Invalid(
            '\'metadata\' is not JSON; send an object such as {"line": "3"}',
            field="metadata",
            kind="invalid_field",
        ) from error


async def _parse_form(request: Request, body: bytes) -> FormData:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(request.headers, stream(), max_files=FORM_FIELDS, max_fields=FORM_FIELDS)
    try:
        return await parser.parse()
    except (MultiPartException, UnicodeError) as error:
        raise Malformed(
            f"the multipart body cannot be read: {error}; send it as an HTTP client's form upload",
            field="body",
            kind="malformed_multipart",
        ) from error


def _form(form: FormData) -> tuple[dict[str, Any], bytes]:
    """The text fields, and the image's bytes."""
    fields: dict[str, Any] = {}
    data: bytes | None = None
    for name, value in form.multi_items():
        if name in fields or (name == "image" and data is not None):
            raise Invalid(
                f"'{name}' was sent twice; send it once", field=name, kind="invalid_field"
            )
        if name == "image":
            data = _upload(value)
        elif isinstance(value, UploadFile):
            raise Invalid(
                f"'{name}' is a file; the one file that is read is 'image': send that",
                field=name,
                kind="invalid_field",
            )
        else:
            fields[name] = value
    if data is None:
        raise Invalid(
            "'image' is missing; send the picture as the file 'image'",
            field="image",
            kind="invalid_field",
        )
    return fields, data


def _upload(value: UploadFile | str) -> bytes:
    if isinstance(value, str):
        raise Invalid(
            "'image' came as text; send it as a file (curl: -F image=@plate.png)",
            field="image",
            kind="invalid_field",
        )
    return value.file.read()
