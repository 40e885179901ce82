"""Files whose structure alone would cost seconds: refused before a pixel is decoded, or read."""

from __future__ import annotations

import re
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageFile

from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import decode
from tests.probes.pictures.cases import COLOUR, SMOOTH, encode, jpeg_with
from tests.probes.pictures.writers import bmp, chunk, exif, png, tiff

MOST_SECONDS = 0.5
"""Of processor time."""


def scans(count: int, file: bytes | None = None) -> bytes:
    """A progressive JPEG whose last scan comes so often."""
    whole = file or encode(SMOOTH, "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + b"\xff\xd9"


def large() -> bytes:
    """A progressive JPEG of 24 megapixels in few bytes."""
    return encode(Image.new("L", (6000, 4000), 77), "JPEG", progressive=True, quality=30)


def directories(count: int) -> bytes:
    """A TIFF of so many pictures, all the same, each directory behind the other."""
    whole = tiff(COLOUR, 8, 2)
    (start,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, start)
    size = 2 + 12 * entries
    directory, first = whole[start : start + size], len(whole)
    chained = b"".join(
        directory + struct.pack("<I", first + (size + 4) * (index + 1) if index < count else 0)
        for index in range(count + 1)
    )
    return (
        whole[:start] + directory + struct.pack("<I", first) + whole[start + size + 4 :] + chained
    )


def entries(count: int, reach: int = 0) -> bytes:
    """A TIFF with so many entries of no use, each of ``reach`` bytes, all at the same place."""
    whole = tiff(COLOUR, 8, 2)
    (start,) = struct.unpack_from("<I", whole, 4)
    (had,) = struct.unpack_from("<H", whole, start)
    kept = whole[start + 2 : start + 2 + 12 * had]
    more = b"".join(
        struct.pack("<HHII", 40_000 + index % 20_000, 7, reach, 0) for index in range(count)
    )
    body = whole + bytes(len(whole) % 2)
    head = body[:4] + struct.pack("<I", len(body)) + body[8:]
    return head + struct.pack("<H", had + count) + kept + more + bytes(4) + bytes(reach)


def exif_bomb(count: int, reach: int) -> bytes:
    """EXIF with many entries that each say to be most of the file."""
    entry = b"".join(struct.pack("<HHII", index, 7, reach, 0) for index in range(300, 300 + count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entry + bytes(4) + bytes(reach)


def tiny_tiles() -> bytes:
    """A TIFF in tiles of one pixel."""
    return tiff(np.zeros((300, 300, 1), dtype=np.uint8), 8, 1, tile=1)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG of 400 scans": (lambda: scans(400), "too_many_parts"),
    "JPEG of 65 scans": (lambda: scans(65), "too_many_parts"),
    "JPEG of 24 megapixels and 30 scans": (lambda: scans(30, large()), "too_many_parts"),
    "JPEG of 5,000 segments": (lambda: jpeg_with(*[(0xE5, b"x")] * 5000), "too_many_parts"),
    "JPEG of 3 million segments": (
        lambda: b"\xff\xd8" + b"\xff\xe5\x00\x02" * 2_900_000,
        "too_many_parts",
    ),
    "PNG of 20,000 chunks": (
        lambda: png(COLOUR, 2, 8, before=chunk(b"tEXt", b"a\0b") * 20_000),
        "too_many_parts",
    ),
    "PNG of 500,000 empty rows' chunks": (
        lambda: png(COLOUR, 2, 8, before=chunk(b"IDAT", b"") * 500_000),
        "too_many_parts",
    ),
    "animated PNG": (
        lambda: png(COLOUR, 2, 8, before=chunk(b"acTL", struct.pack(">II", 2**31, 0))),
        "several_pictures",
    ),
    "WebP of 5,000 chunks": (
        lambda: b"RIFF\xff\xff\xff\x7fWEBP" + b"JUNK\0\0\0\0" * 5000,
        "too_many_parts",
    ),
    "animated WebP": (
        lambda: encode(COLOUR, "WEBP", save_all=True, append_images=[Image.new("RGB", (24, 18))]),
        "several_pictures",
    ),
    "TIFF of 60,000 pictures": (lambda: directories(60_000), "several_pictures"),
    "TIFF of two pictures": (lambda: directories(1), "several_pictures"),
    "TIFF that leads back to itself": (lambda: tiff(COLOUR, 8, 2, following=8), "several_pictures"),
    "TIFF of 60,000 entries": (lambda: entries(60_000), "too_many_parts"),
    "BigTIFF of 2 to the 60 entries": (
        lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60),
        "too_many_parts",
    ),
    "TIFF of tiles of one pixel": (tiny_tiles, "too_many_parts"),
    "TIFF of 4,000,000,000 channels": (
        lambda: tiff(COLOUR, 8, 2).replace(
            struct.pack("<HHIHH", 277, 3, 1, 3, 0), struct.pack("<HHII", 277, 4, 1, 4 * 10**9)
        ),
        "too_many_parts",
    ),
}  # fmt: skip

READ: dict[str, Callable[[], bytes]] = {
    "TIFF of 3,000 entries of 10 MB each": lambda: entries(3000, 10_000_000),
    "EXIF of 3,000 entries of 4 MB each, in a PNG": lambda: png(
        COLOUR, 2, 8, before=chunk(b"eXIf", exif_bomb(3000, 4_000_000))
    ),
    "EXIF of 3,000 entries of 4 MB each, in a WebP": lambda: encode(
        COLOUR, "WEBP", lossless=True, exif=exif_bomb(3000, 4_000_000)
    ),
    "EXIF of 5,000 entries in a JPEG": lambda: jpeg_with(
        (0xE1, b"Exif\0\0" + exif_bomb(5000, 0)), subsampling=0
    ),
    "EXIF whose directory is itself": lambda: jpeg_with(
        (0xE1, b"Exif\0\0" + exif(1)[:-4] + struct.pack("<I", 8))
    ),
    "XMP of 10 MB that hardly matches": lambda: png(
        COLOUR, 2, 8, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0" + b"tiff:Orientation=" * 600_000)
    ),
    "text that unfolds to 200 MB": lambda: png(
        COLOUR, 2, 8, before=chunk(b"zTXt", b"Raw profile type exif\0\0" + _folded())
    ),
    "JPEG index of pictures that has no end": lambda: jpeg_with(
        (0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + bytes(60_000))
    ),
    "BMP of runs of nothing": lambda: bmp(
        b"\0\0" * 100_000 + b"\0\1", 8, palette=bytes(1024), packing=1
    ),
}


def _folded() -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**24)) for _ in range(12)) + packer.flush()


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_a_pixel_is_decoded(name: str, monkeypatch) -> None:
    make, kind = REFUSED[name]
    file = make()
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded")
    )
    began = time.process_time()
    with pytest.raises(PictureRefused) as refused:
        decode(file, Limits())
    assert time.process_time() - began < MOST_SECONDS
    assert refused.value.kind == kind
    assert re.search(r"; \w", refused.value.detail)  # and what to do about it


@pytest.mark.parametrize("name", READ)
def test_it_is_read_without_what_it_is_dressed_in(name: str) -> None:
    file = READ[name]()
    began = time.process_time()
    with suppress(PictureRefused):
        decode(file, Limits())
    assert time.process_time() - began < MOST_SECONDS
