"""What comes from outside and cannot be answered: the right status, the field, the mend."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.anyio


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bare_png(width: int, height: int) -> bytes:
    """A PNG of one bit per pixel, all zero: many pixels in few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def picture(kind: str, mode: str = "RGB", frames: int = 1) -> bytes:
    buffer = io.BytesIO()
    images = [Image.effect_noise((64, 64), 60 + n).convert(mode) for n in range(frames)]
    images[0].save(buffer, kind, save_all=frames > 1, append_images=images[1:])
    return buffer.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


GOOD = b64(picture("PNG"))
QUESTION = "Is there a scratch?"
SIXTY_MEGAPIXELS = bare_png(10_000, 6_000)


def as_json(**changes: Any) -> dict[str, Any]:
    """A good JSON request with changes; ``...`` leaves the field out."""
    fields = {"question": QUESTION, "image": GOOD, **changes}
    return {"json": {name: value for name, value in fields.items() if value is not ...}}


def raw(content: bytes, kind: str = "application/json") -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": kind}}


def as_form(image: Any = None, **fields: str) -> dict[str, Any]:
    files = {"image": ("plate.png", image)} if image is not None else {"other": ("a.png", b"x")}
    return {"data": {"question": QUESTION, **fields}, "files": files}


NESTED = b'{"question": "q", "image": "aa", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty body": (raw(b""), 400, "body"),
    "not JSON": (raw(b"{'question': 1}"), 400, "body"),
    "JSON cut short": (raw(b'{"question": "Is'), 400, "body"),
    "not UTF-8": (raw(b'{"question": "\xff\xfe"}'), 400, "body"),
    "nesting bomb": (raw(NESTED), 400, "body"),
    "multipart without boundary": (raw(b"--x", "multipart/form-data"), 400, "body"),
    "multipart damaged": (raw(b"garbage", "multipart/form-data; boundary=x"), 400, "body"),
    "30 MB JSON": (raw(b" " * 30_000_000), 413, "body"),
    "30 MB upload": (as_form(bytes(30_000_000)), 413, "body"),
    "image file too large": (as_form(bytes(13_000_000)), 413, "image"),
    "image base64 too large": (as_json(image="A" * 16_040_000), 413, "image"),
    "60 megapixels in a small file": (as_form(SIXTY_MEGAPIXELS), 413, "image"),
    "400 megapixels": (as_form(bare_png(20_000, 20_000)), 413, "image"),
    "plain text body": (raw(b"Is there a scratch?", "text/plain"), 415, "Content-Type"),
    "form without multipart": (
        raw(b"question=q", "application/x-www-form-urlencoded"),
        415,
        "Content-Type",
    ),
    "animated GIF": (as_form(picture("GIF", "P", 3)), 415, "image"),
    "GIF as base64": (as_json(image=b64(picture("GIF", "P"))), 415, "image"),
    "PDF": (as_form(b"%PDF-1.7"), 415, "image"),
    "HEIC": (as_form(b"\0\0\0\x18ftypheic" + bytes(20)), 415, "image"),
    "JSON list": (raw(b"[]"), 422, "body"),
    "no image": (as_json(image=...), 422, "image"),
    "no image in the form": ({"files": {"question": (None, QUESTION)}}, 422, "image"),
    "a file of another name": (as_form(), 422, "other"),
    "image null": (as_json(image=None), 422, "image"),
    "image empty": (as_json(image=""), 422, "image"),
    "image file empty": (as_form(b""), 422, "image"),
    "image as text in the form": (
        {"files": {"question": (None, QUESTION), "image": (None, "plate.png")}},
        422,
        "image",
    ),
    "two images": (
        {"data": {"question": QUESTION}, "files": [("image", b"a"), ("image", b"b")]},
        422,
        "image",
    ),
    "image not base64": (as_json(image="plate.png!"), 422, "image"),
    "data URI not base64": (as_json(image="data:image/svg+xml,<svg/>"), 422, "image"),
    "image a URL": (as_json(image="https://example.com/a.png"), 422, "image"),
    "image and URL": (as_json(image_url="https://example.com/a.png"), 422, "image_url"),
    "image a number": (as_json(image=7), 422, "image"),
    "text named .png": (as_form(b"this is a text file, not an image"), 422, "image"),
    "truncated PNG": (as_form(picture("PNG")[:900]), 422, "image"),
    "truncated JPEG": (as_form(picture("JPEG")[:900]), 422, "image"),
    "PNG of 0x0": (as_form(bare_png(0, 0)), 422, "image"),
    "animated PNG": (as_form(picture("PNG", frames=3)), 422, "image"),
    "animated WebP": (as_form(picture("WEBP", frames=3)), 422, "image"),
    "TIFF of several pages": (as_form(picture("TIFF", frames=2)), 422, "image"),
    "float TIFF": (as_form(picture("TIFF", "F")), 422, "image"),
    "thread of an image": (as_form(bare_png(20_000, 1)), 422, "image"),
    "no question": (as_json(question=...), 422, "question"),
    "question empty": (as_json(question=""), 422, "question"),
    "question blank": (as_json(question=" \n"), 422, "question"),
    "NUL in the question": (as_json(question="Is\x00there?"), 422, "question"),
    "NUL in the form's question": (as_form(picture("PNG"), question="Is\x00it?"), 422, "question"),
    "question of 20,000 characters": (as_json(question="a" * 20_000), 422, "question"),
    "question a number": (as_json(question=7), 422, "question"),
    "question a list": (as_json(question=["Is it?"]), 422, "question"),
    "unknown option": (as_json(temperature=0.1), 422, "temperature"),
    "unknown option in the form": (as_form(picture("PNG"), temperature="1"), 422, "temperature"),
    "samples 0": (as_json(samples=0), 422, "samples"),
    "samples 10,000": (as_json(samples=10_000), 422, "samples"),
    "samples a string": (as_json(samples="10"), 422, "samples"),
    "samples a word in the form": (as_form(picture("PNG"), samples="ten"), 422, "samples"),
    "samples a fraction": (as_json(samples=2.5), 422, "samples"),
    "self_consistency unknown": (as_json(self_consistency="maybe"), 422, "self_consistency"),
    "max_tokens 0": (as_json(max_tokens=0), 422, "max_tokens"),
    "max_tokens huge": (as_json(max_tokens=10**9), 422, "max_tokens"),
    "evidence a number": (as_json(evidence=1), 422, "evidence"),
    "metadata a string": (as_json(metadata="line 3"), 422, "metadata"),
    "metadata nested": (as_json(metadata={"a": {"b": "c"}}), 422, "metadata.a"),
    "metadata too much": (as_json(metadata={str(n): "" for n in range(99)}), 422, "metadata"),
    "metadata not JSON in the form": (as_form(picture("PNG"), metadata="{"), 422, "metadata"),
    "metadata a bomb in the form": (
        as_form(picture("PNG"), metadata="[" * 100_000),
        422,
        "metadata",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input(serve, name):
    request, status, field = BAD[name]
    async with serve() as client:
        reply = await client.post("/v1/answer", **request)
        good = await client.post("/v1/answer", **as_json())
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert (reply.status_code, problem["status"], problem["field"]) == (status, status, field)
    assert {"type", "title", "detail", "instance"} <= problem.keys()
    assert any(
        mend in problem["detail"]
        for mend in ("send", "remove", "crop", "convert", "encode", "write", "correct", "ask")
    )
    assert good.status_code == 200


async def test_what_is_sent_does_not_come_back(serve):
    async with serve() as client:
        reply = await client.post("/v1/answer", **as_json(question="secret" * 4_000))
    assert "secret" not in reply.text


async def test_sixty_megapixels_are_few_bytes():
    assert len(SIXTY_MEGAPIXELS) < 100_000


async def test_an_unknown_path_and_method_are_problems(serve):
    async with serve() as client:
        path = await client.get("/v2/answers")
        method = await client.get("/v1/answer")
        counted = (await client.get("/metrics")).text
    for reply, status in ((path, 404), (method, 405)):
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/problem+json"
        assert "GET /docs" in reply.json()["detail"]
    assert method.headers["allow"] == "POST"
    assert 'vlm_gate_requests_total{code="404",route="unmatched"} 1.0' in counted


async def test_a_request_refused_is_counted_by_kind(serve):
    async with serve() as client:
        await client.post("/v1/answer", **as_json(samples=0))
        counted = (await client.get("/metrics")).text
    assert 'vlm_gate_rejected_requests_total{reason="invalid_field"} 1.0' in counted
    assert 'vlm_gate_requests_total{code="422",route="/v1/answer"} 1.0' in counted
