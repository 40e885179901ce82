"""Base64 is read as strictly as binascii reads it; blanks are left out."""

from __future__ import annotations

import base64
import binascii
import random

import pytest

from service.errors import Invalid
from service.images.data_uri import decode_base64

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
ODD = "=-_, \n\t\x1c\x00\\é"
SLICE_BYTES = 196_608
"""Decoded at once."""


def strict(text: str) -> bytes | None:
    """What binascii says of whole groups of four; None where it refuses."""
    try:
        data = text.encode("ascii").translate(None, b" \t\n\r\v\f")
        return None if len(data) % 4 else binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        return None


def ours(text: str) -> bytes | None:
    try:
        return decode_base64(text, 1_000_000)
    except Invalid:
        return None


@pytest.mark.parametrize("form", ["AAA{}", "{}AAA", "AA{}=", "A{}==", "AAAA{}"])
def test_each_character_at_each_place(form):
    texts = [form.format(chr(number)) for number in range(0x180)]
    assert [ours(text) for text in texts] == [strict(text) for text in texts]


def test_random_texts():
    draw = random.Random(0)
    texts = [
        "".join(draw.choices(LETTERS + ODD, [3] * len(LETTERS) + [9] * len(ODD), k=length))
        for length in range(13)
        for _ in range(200)
    ]
    assert [ours(text) for text in texts] == [strict(text) for text in texts]
    assert sum(ours(text) is not None for text in texts) > 200  # the empty ones, and more


@pytest.mark.parametrize("size", [1, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 500_000])
def test_over_the_ends_of_slices(size):
    data = random.Random(size).randbytes(size)
    text = base64.b64encode(data).decode()
    lines = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert ours(text) == ours(lines) == ours("data:;base64," + lines) == data
    assert ours(text + "A") is ours(text[:-1]) is ours(text + "====") is None
