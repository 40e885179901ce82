"""Bombs and polyglots: refused by their headers, or read as pixels and nothing else."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageFile

from service.errors import Invalid, TooLarge, UnsupportedType
from service.images.decode import decode_image

LIMIT = 25_000_000
PLATE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def encode(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PLATE).save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, max_bytes=12_000_000, max_pixels=LIMIT).pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


def jpeg_bomb() -> bytes:
    data = bytearray(encode("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def webp_bomb() -> bytes:
    """A lossless WebP whose header says 16383 x 16383."""
    bits = (16_382) | (16_382 << 14)
    inner = b"VP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", bits) + bytes(5)
    return b"RIFF" + struct.pack("<I", 4 + len(inner)) + b"WEBP" + inner


def bmp_bomb() -> bytes:
    data = bytearray(encode("BMP"))
    data[18:26] = struct.pack("<ii", 40_000, 40_000)
    return bytes(data)


def tiff_bomb() -> bytes:
    """A TIFF of 60000 x 60000 in one deflated strip."""
    strip = zlib.compress(bytes(1_000_000), 9)
    tags = [(256, 4, 60_000), (257, 4, 60_000), (258, 3, 8), (259, 3, 8), (262, 3, 1),
            (273, 4, 8), (277, 3, 1), (278, 4, 60_000), (279, 4, len(strip))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    ifd = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + ifd


BOMBS = {
    "PNG": png_bomb,
    "JPEG": jpeg_bomb,
    "WebP": webp_bomb,
    "BMP": bmp_bomb,
    "TIFF": tiff_bomb,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_a_pixel_is_decoded(name, monkeypatch):
    def load(self):
        pytest.fail("pixels were decoded")

    data = BOMBS[name]()
    assert len(data) < 20_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(TooLarge) as refused:
        decode(data)
    assert refused.value.kind == "too_many_pixels"


def text_bomb() -> bytes:
    """A PNG whose compressed comment and profile unfold to 100 MB each."""
    whole = encode("PNG")
    rows = zlib.compress(bytes(100_000_000), 9)
    extra = chunk(b"zTXt", b"Comment\0\0" + rows) + chunk(b"iCCP", b"p\0\0" + rows)
    return whole[:33] + extra + whole[33:]


def test_a_comment_that_unfolds_to_100_mb_is_refused_or_left_folded():
    """Whichever the decoder does, it must not hold the 100 MB."""
    import resource

    data = text_bomb()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(Invalid):
        assert (decode(data) == PLATE).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as held:
        held.writestr("payload.txt", "payload")
    return buffer.getvalue()


SCRIPT = b"<script>payload()</script>"
APPENDED = {
    "PNG and ZIP": ("PNG", archive),
    "PNG and HTML": ("PNG", lambda: SCRIPT),
    "BMP and PDF": ("BMP", lambda: b"%PDF-1.7 payload"),
}


@pytest.mark.parametrize("name", APPENDED)
def test_what_follows_an_image_is_not_looked_at(name):
    kind, payload = APPENDED[name]
    assert (decode(encode(kind) + payload()) == PLATE).all()


POLYGLOTS = {
    "HTML before a PNG": (lambda: SCRIPT + encode("PNG"), Invalid),
    "ZIP before a PNG": (lambda: archive() + encode("PNG"), Invalid),
    "PDF with a JPEG inside": (lambda: b"%PDF-1.7\n" + encode("JPEG"), UnsupportedType),
    "GIF that is a script": (lambda: b"GIF89a/*" + encode("PNG") + b"*/=1", UnsupportedType),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>", UnsupportedType),
    "XML with an entity bomb": (lambda: b"<?xml version='1.0'?><!DOCTYPE a>", Invalid),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Invalid),
    "ICO with a PNG inside": (
        lambda: b"\0\0\1\0\1\0" + bytes([9, 9, 0, 0, 1, 0, 32, 0]) + encode("PNG"),
        UnsupportedType,
    ),
    "ELF": (lambda: b"\x7fELF" + bytes(64), Invalid),
    "pickle": (lambda: b"\x80\x04c__main__\nx\n.", Invalid),
}


@pytest.mark.parametrize("name", POLYGLOTS)
def test_a_file_that_does_not_begin_as_an_image_is_refused(name):
    make, error = POLYGLOTS[name]
    with pytest.raises(error):
        decode(make())


def test_scripts_in_comments_and_profiles_change_no_pixel():
    plain = decode(encode("JPEG", quality=95))
    dressed = encode("JPEG", quality=95, comment=SCRIPT, icc_profile=b"payload" * 100)
    assert b"payload" in dressed
    assert (decode(dressed) == plain).all()


def test_a_postscript_interpreter_is_never_reached(monkeypatch):
    """Pillow would run Ghostscript on EPS; only the five formats are ever opened."""
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was run"))
    with pytest.raises(Invalid):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
