"""Odd input that formats allow, or that clients send by mistake: its own status, and no 500."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

pytestmark = pytest.mark.anyio
QUESTION = "Is it whole?"
BOUNDARY = "b0undary"


def accept(value: str) -> dict[str, Any]:
    return {"method": "GET", "url": "/metrics", "headers": {"accept": value}}


OPEN = "application/openmetrics-text;version="


def asked(text: bytes, **headers: str) -> dict[str, Any]:
    """A JSON body as it stands; IMAGE is replaced by an image."""
    return {
        "method": "POST",
        "url": "/v1/answer",
        "content": text,
        "headers": {"content-type": "application/json", **headers},
    }


def form(*parts: tuple[bytes, bytes], charset: str = "", **headers: str) -> dict[str, Any]:
    """A form of texts (disposition, value) and an image."""
    image = b'form-data; name="image"; filename="a.png"'
    body = b"".join(
        b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), *part)
        for part in (*parts, (image, b"IMAGE"))
    )
    kind = f"multipart/form-data; boundary={BOUNDARY}{charset}"
    return {
        "method": "POST",
        "url": "/v1/answer",
        "content": body + b"--%b--\r\n" % BOUNDARY.encode(),
        "headers": {"content-type": kind, **headers},
    }


def named(disposition: bytes) -> dict[str, Any]:
    return form((b'form-data; name="question"', QUESTION.encode()), (disposition, b"x"))


GOOD = b'{"question": "Is it whole?", "image": "IMAGE"}'
ASK = (b'form-data; name="question"', QUESTION.encode())
ODD: dict[str, tuple[dict[str, Any], int, str]] = {
    # What a scraper may ask for and nobody has.
    "metrics in a version to come": (accept(f"{OPEN}2.0.0"), 200, ""),
    "metrics in a version that is a word": (accept(f"{OPEN}a"), 200, ""),
    "metrics in a version quoted": (accept(f'{OPEN}"1.0.0"'), 200, ""),
    "metrics in no version": (accept(OPEN), 200, ""),
    "metrics as text in a version that is a word": (accept("text/plain;version=x.y"), 200, ""),
    "metrics in an odd escaping": (
        accept(f"{OPEN}1.0.0;escaping=none;escaping"), 200, "",
    ),
    "metrics in anything": (accept("=;=,;version"), 200, ""),
    # Bodies that are packed: read as they stand, or not at all.
    "gzip": (asked(GOOD, **{"content-encoding": "gzip"}), 415, "Content-Encoding"),
    "deflate": (asked(GOOD, **{"content-encoding": "deflate"}), 415, "Content-Encoding"),
    "two encodings": (asked(GOOD, **{"content-encoding": "identity, br"}), 415, "Content-Encoding"),
    "gzip of a form": (form(ASK, **{"content-encoding": "GZIP"}), 415, "Content-Encoding"),
    "identity": (asked(GOOD, **{"content-encoding": "identity"}), 200, ""),
    # Charsets.
    "punycode": (form(ASK, charset="; charset=punycode"), 415, "Content-Type"),
    "zip": (form(ASK, charset="; charset=zlib_codec"), 415, "Content-Type"),
    "utf-7": (form(ASK, charset='; charset="UTF-7"'), 415, "Content-Type"),
    "utf-16 in pieces": (form(ASK, charset="; charset*0=utf; charset*1=-16"), 415, "Content-Type"),
    "idna, encoded": (form(ASK, charset="; charset*=utf-8''idna"), 415, "Content-Type"),
    "a charset that is none": (form(ASK, charset="; charset=klingon"), 415, "Content-Type"),
    "JSON in utf-16": (
        asked(GOOD, **{"content-type": "application/json; charset=utf-16"}), 415, "Content-Type",
    ),
    "half a pair as a form's name, in an escape": (
        {**form(ASK, (b'form-data; name="\\ud800"', b"x"), charset="; charset=unicode_escape")},
        415, "Content-Type",
    ),
    "UTF-8 told": (form(ASK, charset="; charset=UTF-8"), 200, ""),
    "Latin-1": (form(ASK, charset="; charset=ISO-8859-1"), 200, ""),
    "JSON in UTF-8 told": (
        asked(GOOD, **{"content-type": "application/json; charset=utf-8"}), 200, "",
    ),
    "a type without an end": (
        asked(GOOD, **{"content-type": "application/json;" + " a=b;" * 500}), 400, "Content-Type",
    ),
    # Names that stand twice: what they mean would be anybody's guess.
    "two questions": (
        asked(b'{"question": "a?", "question": "Is it whole?", "image": "IMAGE"}'), 422, "question",
    ),
    "two images": (asked(b'{"image": "aa", "question": "a?", "image": "IMAGE"}'), 422, "image"),
    "two questions, one escaped": (
        asked(b'{"question": "a?", "\\u0071uestion": "b?", "image": "IMAGE"}'), 422, "question",
    ),
    "the same name twice in the metadata": (
        asked(b'{"question": "a?", "image": "IMAGE", "metadata": {"a": "1", "a": "2"}}'), 422, "a",
    ),
    "the same name twice in a form's metadata": (
        form(ASK, (b'form-data; name="metadata"', b'{"a": "1", "a": "2"}')), 422, "a",
    ),
    # Half of a surrogate pair.
    "half a pair in the question": (
        asked(b'{"question": "\\ud800", "image": "IMAGE"}'), 422, "question",
    ),
    "half a pair as a name": (
        asked(b'{"question": "a?", "image": "IMAGE", "\\udfff": 1}'), 400, "body",
    ),
    "half a pair in the metadata's name": (
        asked(b'{"question": "a?", "image": "IMAGE", "metadata": {"\\ud800": "1"}}'), 400, "body",
    ),
    "half a pair in the metadata": (
        asked(b'{"question": "a?", "image": "IMAGE", "metadata": {"a": "\\ud800"}}'),
        422, "metadata.a",
    ),
    "half a pair as a form's name": (named(b'form-data; name="\xed\xa0\x80"'), 422, "..."),
    "half a pair as a form's name, encoded": (
        named(b"form-data; name*=utf-8''%ed%a0%80"), 400, "body",
    ),
    "half a pair as a form's name, in a charset of its own": (
        named(b"form-data; name*=utf-16''%00%d8"), 400, "body",
    ),
    "half a pair as a form's file name": (
        named(b'form-data; name="x"; filename="\xed\xa0\x80"'), 422, "x",
    ),
    "half a pair in a form's metadata": (
        form(ASK, (b'form-data; name="metadata"', b'{"\\ud800": "1"}')), 422, "metadata",
    ),
    # Numbers, and what else is no JSON.
    "a number without an end": (
        asked(b'{"question": "a?", "samples": ' + b"1" * 5_000 + b"}"), 400, "body",
    ),
    "an infinite number": (
        asked(b'{"question": "a?", "image": "IMAGE", "samples": Infinity}'), 400, "body",
    ),
    "a byte order mark": (asked(b"\xef\xbb\xbf" + GOOD), 400, "body"),
    "a name of 100 kB": (asked(b'{"' + b"a" * 100_000 + b'": 1}'), 400, "body"),
}  # fmt: skip
SLICES = {
    "a word": "line",
    "a quote": 'a"b',
    "a single quote": "a'b",
    "a backslash": "a\\b",
    "a path's marks": "$.a[0]",
    "a dot": "a.b",
    "an umlaut": "\u00fc",
    "a sign of four bytes": "\U0001f600",
    "a NUL": "a\0b",
}
"""Names of metadata, which may hold anything."""


@pytest.mark.parametrize("name", ODD)
async def test_it_gets_its_status(serve, png, name):
    request, status, field = ODD[name]
    if "content" in request:
        image = png if b"form-data" in request["content"] else base64.b64encode(png)
        request = {**request, "content": request["content"].replace(b"IMAGE", image)}
    async with serve(records_url="sqlite:///records.db") as client:
        reply = await client.request(**request)
    assert reply.status_code == status, reply.text[:300]
    assert len(reply.content) < 2_000 or status == 200
    if status != 200 and field != "...":
        assert reply.json()["field"] == field
    elif status != 200:
        assert json.loads(reply.content.decode())["field"] != "question"


@pytest.mark.parametrize("url", ["sqlite:///records.db", "postgresql"])
async def test_a_slice_is_found_by_any_name(serve, png, request, url):
    if url == "postgresql":
        url = request.getfixturevalue("postgres").empty_database()
    image = base64.b64encode(png).decode()
    async with serve(records_url=url, records_strict=True) as client:
        for number, name in enumerate(SLICES.values()):
            body = {"question": "a?", "image": image, "metadata": {name: f"{number}"}}
            assert (await client.post("/v1/answer", json=body)).status_code == 200
        for number, name in enumerate(SLICES.values()):
            for value, count in ((f"{number}", 1), ("other", 0)):
                told = await client.get("/v1/answers", params={"slice": f"{name}:{value}"})
                assert told.status_code == 200
                assert len(told.json()["answers"]) == count, name
        for odd in (":1", "a:\0", "%ed%a0%80:1"):
            assert (await client.get("/v1/answers", params={"slice": odd})).status_code == 200
