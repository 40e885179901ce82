"""WebP: RIFF chunks around VP8 or VP8L. No checksum; libwebp refuses what makes no sense."""

from __future__ import annotations

import struct

from probes.pictures.container import MOST_PARTS, Container, damaged, too_many_parts
from probes.pictures.exif import orientation

PROFILE_FLAG, ALPHA_FLAG = 0x20, 0x10
VP8_START = b"\x9d\x01\x2a"


def take_apart(file: bytes) -> Container:
    """Read the chunks. Raises PictureRefused where there is no picture to decode."""
    told = 8 + int.from_bytes(file[4:8], "little")
    chunks, whole = _chunks(file[:told])
    first: dict[bytes, bytes] = {}
    for kind, data in chunks:
        first.setdefault(kind, data)
    width, height = _size(first)
    cut = not whole or told > len(file)
    return Container(
        "WEBP",
        width,
        height,
        file,
        pictures=max(1, sum(kind == b"ANMF" for kind, _ in chunks)),
        orientation=orientation(first.get(b"EXIF"), first.get(b"XMP ")),
        profile=first.get(b"ICCP"),
        damage="the file is cut short" if cut else _missing(first),
    )


def find_damage(picture: Container) -> None:
    """Nothing: decoding refuses what can be seen."""


def _chunks(file: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Kind and data of each, and whether the last is all there; its padding is often left out."""
    found: list[tuple[bytes, bytes]] = []
    at, whole = 12, True
    while at + 8 <= len(file):
        kind, length = struct.unpack_from("<4sI", file, at)
        found.append((kind, file[at + 8 : at + 8 + length]))
        whole = len(found[-1][1]) == length
        if len(found) > MOST_PARTS:
            raise too_many_parts("chunks", MOST_PARTS)
        at += 8 + length + length % 2
    return found, whole


def _missing(chunks: dict[bytes, bytes]) -> str | None:
    """Which chunk of the picture's colours the header announces in vain, if one."""
    flags = (chunks.get(b"VP8X") or b"\0")[0]
    if flags & ALPHA_FLAG and b"VP8 " in chunks and b"ALPH" not in chunks:
        return "the transparency is missing"
    if flags & PROFILE_FLAG and b"ICCP" not in chunks:
        return "the profile is missing"
    return None


def _size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    """Width and height: of the canvas, or of the one picture. Raises PictureRefused."""
    if len(canvas := chunks.get(b"VP8X", b"")) >= 10:
        size = canvas[4:]
        return 1 + int.from_bytes(size[:3], "little"), 1 + int.from_bytes(size[3:6], "little")
    if len(lossy := chunks.get(b"VP8 ", b"")) >= 10 and lossy[3:6] == VP8_START:
        width, height = struct.unpack_from("<HH", lossy, 6)
        return width & 0x3FFF, height & 0x3FFF
    if len(lossless := chunks.get(b"VP8L", b"")) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise damaged()
