"""JPEG: segments, then scans of entropy-coded data. No checksum; libjpeg warns of what it sees."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import simplejpeg

from probes.pictures.container import MOST_PARTS, Container, damaged, too_many_parts
from probes.pictures.exif import orientation

MAGIC = b"\xff\xd8\xff"
USUAL_SCANS = 20
"""libjpeg's own script for progressive files has 10, for four channels 18: any picture may."""
MOST_SCANS = 64
"""Of one picture, however small."""
SOI, EOI, SOS, DQT, APP0, APP1, APP2, APP14, APP15, COM = (
    0xD8, 0xD9, 0xDA, 0xDB, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE)  # fmt: skip
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_AFTER_DATA = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""The marker that ends a scan: stuffed bytes, fill bytes and restart markers belong to it."""
_MARKER = re.compile(rb"\xff+[^\x00\xff]")


@dataclass(slots=True)
class _Parts:
    """What the segments said."""

    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: int = 0
    size: tuple[int, int] = (0, 0)
    depth: int = 8
    sent: dict[int, list[int]] = field(default_factory=dict)
    """Per channel and coefficient the lowest bit that came; 255 for none."""
    scans: int = 0
    exif: bytes | None = None
    xmp: bytes | None = None
    profile: list[tuple[int, int, bytes]] = field(default_factory=list)
    damage: str | None = None
    ended: bool = False

    def take(self, marker: int, data: bytes) -> None:
        """Keep what matters of a segment. Raises PictureRefused."""
        if marker in FRAMES:
            if self.frame or len(data) < 6:
                raise damaged()
            self.frame, self.depth = marker, data[0]
            height, width = struct.unpack_from(">HH", data, 1)
            self.size = width, height
            self.sent = {one: [255] * 64 for one in data[6::3]}
        elif marker == DQT and _holds_zero(data):
            self.damage = self.damage or "a quantization table holds a 0"
        elif marker == APP1 and data.startswith(b"Exif\0"):
            self.exif = self.exif or data
        elif marker == APP1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            self.xmp = self.xmp or data[29:]
        elif marker == APP2 and data.startswith(b"ICC_PROFILE\0") and len(data) > 14:
            self.profile.append((data[12], data[13], data[14:]))

    def scan(self, data: bytes) -> None:
        """Note which bits of which coefficients a scan brings."""
        self.scans += 1
        if self.scans > MOST_SCANS:
            raise too_many_parts("scans", MOST_SCANS)
        count = data[0] if data else 0
        if not count or len(data) < 4 + 2 * count:
            raise damaged()
        first, last, bits = data[1 + 2 * count : 4 + 2 * count]
        if self.frame not in PROGRESSIVE:
            first, last, bits = 0, 63, 0
        for channel in data[1 : 1 + 2 * count : 2]:
            for at in range(first, min(last, 63) + 1):
                self.sent.get(channel, [255] * 64)[at] = bits & 15


def take_apart(file: bytes) -> Container:
    """Read the segments. Raises PictureRefused where there is no picture to decode."""
    parts = _walk(file)
    if not parts.frame:
        raise damaged()
    profile = _profile(parts.profile)
    if parts.profile and profile is None:
        parts.damage = parts.damage or "the profile is incomplete"
    if any(bit for channel in parts.sent.values() for bit in channel):
        parts.damage = parts.damage or "a scan is missing"
    return Container(
        "JPEG",
        *parts.size,
        b"".join(parts.kept),
        scans=parts.scans,
        orientation=orientation(parts.exif, parts.xmp),
        profile=profile,
        depth=parts.depth,
        damage=parts.damage,
    )


def find_damage(picture: Container) -> str | None:
    """What libjpeg warns of, in its own words.

    An eighth of the size, and grey: the whole of the data is read for it, and little is computed.
    """
    return warning_of(picture.essence)


def damage_of(file: bytes) -> str | None:
    """What is wrong with a JPEG file that lies in another, if anything. Raises PictureRefused."""
    return warning_of(file) or _walk(file).damage


def warning_of(file: bytes) -> str | None:
    """libjpeg's first warning of a JPEG file, if it has one."""
    try:
        simplejpeg.decode_jpeg(file, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return None


def _walk(file: bytes) -> _Parts:
    parts, at = _Parts(), 2
    for _ in range(MOST_PARTS):
        found = _MARKER.search(file, at)
        if found is None:
            break
        if found.start() != at:
            parts.damage = parts.damage or "there are bytes that belong to no segment"
        marker, at = file[found.end() - 1], found.end()
        if marker == EOI:
            parts.kept.append(b"\xff\xd9")
            parts.ended = True
            return parts
        if marker == SOI:
            raise damaged()
        if marker == 1 or 0xD0 <= marker <= 0xD7:  # they stand alone
            parts.damage = parts.damage or "a marker stands where none belongs"
            continue
        at = _segment(file, marker, at, parts)
    else:
        raise too_many_parts("segments", MOST_PARTS)
    parts.damage = parts.damage or "the file is cut short"
    return parts


def _segment(file: bytes, marker: int, at: int, parts: _Parts) -> int:
    """Take a segment, with its scan's data where it has one; where the next marker is."""
    length = int.from_bytes(file[at : at + 2], "big")
    if length < 2:
        raise damaged()
    end, data = at + length, file[at + 2 : at + length]
    parts.take(marker, data)
    if marker == SOS:
        parts.scan(data)
        found = _AFTER_DATA.search(file, end)
        end = len(file) if found is None else found.start()
    if not (APP0 < marker < APP14 or marker in (APP15, COM)):
        parts.kept.append(b"\xff" + bytes([marker]) + file[at:end])
    return end


def _holds_zero(tables: bytes) -> bool:
    """Whether a quantization table has a 0, which none may (T.81, section B.2.4.1)."""
    at = 0
    while at < len(tables):
        wide = tables[at] >> 4 != 0
        table = tables[at + 1 : at + (129 if wide else 65)]
        if 0 in (memoryview(table[: len(table) & ~1]).cast("H") if wide else table):
            return True
        at += 1 + len(table)
    return False


def _profile(pieces: list[tuple[int, int, bytes]]) -> bytes | None:
    """A profile put together from its numbered pieces; None where some are missing."""
    pieces = sorted(pieces)
    wanted = [(number, len(pieces)) for number in range(1, len(pieces) + 1)]
    if not pieces or [piece[:2] for piece in pieces] != wanted:
        return None
    return b"".join(data for _, _, data in pieces)
