"""PNG: chunks, each with a checksum, and rows in one zlib stream with another."""

from __future__ import annotations

import struct
import zlib
from binascii import unhexlify
from collections.abc import Iterator
from dataclasses import dataclass, field

from probes.pictures.container import (
    MOST_PROFILE_BYTES,
    Container,
    damaged,
    too_many_parts,
)
from probes.pictures.exif import orientation

MAGIC = b"\x89PNG\r\n\x1a\n"
CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
"""Adam7: first column, first row, column step, row step."""
PIECE = 2**16
MOST_CHUNKS = 2**14
"""Rows may come in many: some encoders write a thousand bytes in each."""
_LEGACY_EXIF = b"Raw profile type exif"
_XMP = b"XML:com.adobe.xmp\0"


@dataclass(slots=True)
class _Parts:
    """What the chunks said."""

    header: bytes = b""
    palette: bytes | None = None
    alpha: bytes | None = None
    significant: bytes | None = None
    rows: list[bytes] = field(default_factory=list)
    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None
    pictures: int = 1
    damage: str | None = None

    def take(self, kind: bytes, data: bytes) -> None:
        """Keep what matters of a whole chunk."""
        match kind:
            case b"IHDR" if not self.header:
                self.header = data
            case b"PLTE" if self.palette is None:
                self.palette = data
            case b"tRNS" if self.alpha is None and not self.rows:
                self.alpha = data
            case b"sBIT" if self.significant is None and not self.rows:
                self.significant = data
            case b"IDAT":
                self.rows.append(data)
            case b"eXIf":
                self.exif = self.exif or data
            case b"iCCP":
                self.profile = _unfold(data.partition(b"\0")[2][1:])
                self.damage = self.damage or ("" if self.profile else "the profile is damaged")
            case b"acTL" if len(data) == 8:
                self.pictures = max(1, int.from_bytes(data[:4], "big"))
            case b"iTXt" if data.startswith(_XMP):
                self.xmp = data[len(_XMP) :]
            case b"tEXt" | b"zTXt" if data.startswith(_LEGACY_EXIF + b"\0"):
                self.exif = self.exif or _legacy_exif(kind, data[len(_LEGACY_EXIF) + 1 :])


def take_apart(file: bytes) -> Container:
    """Read the chunks. Raises PictureRefused where there is no picture to decode."""
    parts, kinds = _Parts(), list[bytes]()
    for kind, data, whole in _chunks(file):
        kinds.append(kind)
        if not whole:
            parts.damage = parts.damage or "a chunk's checksum is wrong"
            if kind not in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
                continue  # what it says cannot be believed, and a picture can do without
        parts.take(kind, data)
    if kinds[-1:] != [b"IEND"]:
        parts.damage = parts.damage or "the file is cut short"
    if len(parts.header) != 13:
        raise damaged()
    width, height, depth, colour = struct.unpack_from(">IIBB", parts.header)
    if colour not in CHANNELS or any(parts.header[10:12]) or parts.header[12] > 1:
        raise damaged()
    parts.damage = parts.damage or _misplaced(kinds) or _wrong_length(parts, colour)
    return Container(
        "PNG",
        width,
        height,
        _essence(parts, colour),
        pictures=parts.pictures,
        orientation=orientation(parts.exif, parts.xmp),
        profile=parts.profile or None,
        key=_key(parts.alpha, colour),
        depth=depth,
        told=_significant(parts.significant, colour, depth),
        colours=len(parts.palette) // 3 if parts.palette is not None and colour == 3 else None,
        damage=parts.damage or None,
    )


def find_damage(picture: Container) -> str | None:
    """Why the rows are not what was written, if they are not: too few, too many, wrong checksum."""
    header = picture.essence[16:29]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * CHANNELS[colour]
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            wanted += lines * (1 + (columns * bits + 7) // 8)
    rows = b"".join(data for kind, data, _ in _chunks(picture.essence) if kind == b"IDAT")
    return check_zlib(rows, wanted, wanted, alone=True)


def check_zlib(data: bytes, least: int, most: int, *, alone: bool = False) -> str | None:
    """Why a zlib stream is not whole, if it is not; its checksum is compared.

    Args:
        least, most: bytes that it may hold.
        alone: nothing may follow it.
    """
    stream, seen, fed = zlib.decompressobj(), 0, 0
    try:
        while not stream.eof and fed < len(data):
            piece, fed = data[fed : fed + PIECE], fed + PIECE
            while piece and not stream.eof and seen <= most:
                seen += len(stream.decompress(piece, 2**20))
                piece = stream.unconsumed_tail
            if seen > most:
                return "there is more compressed data than the picture takes"
    except zlib.error:
        return "the compressed data is damaged"
    if not stream.eof or seen < least:
        return "the compressed data is cut short"
    if alone and (stream.unused_data or fed < len(data)):
        return "there are bytes behind the compressed data"
    return None


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def as_bytes(essence: bytes) -> bytes:
    """A picture of 16-bit grey and alpha as one of 8-bit RGBA: its four bytes a pixel, as they are.

    Rows of both are filtered over four bytes, so nothing but the header differs.
    """
    header = essence[16:24] + bytes([8, 6]) + essence[26:29]
    return essence[:8] + chunk(b"IHDR", header) + essence[33:]


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, data, and whether the chunk is whole, up to the end. Raises PictureRefused."""
    at = len(MAGIC)
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(file):
            return
        length, kind = struct.unpack_from(">I4s", file, at)
        data = file[at + 8 : at + 8 + length]
        sum_at = at + 8 + len(data)
        told = file[sum_at : sum_at + 4]
        yield kind, data, told == struct.pack(">I", zlib.crc32(file[at + 4 : sum_at]))
        if kind == b"IEND":
            return
        at = sum_at + 4
    raise too_many_parts("chunks", MOST_CHUNKS)


def _misplaced(kinds: list[bytes]) -> str | None:
    """Which chunk that the picture needs is not known or stands where it may not, if one does.

    PNG, section 5.6.
    """
    if kinds[:1] != [b"IHDR"] or kinds.count(b"IHDR") > 1:
        return "the header is not the first chunk, or comes twice"
    if any(kind not in CRITICAL and not kind[0] & 32 for kind in kinds):
        return "a chunk that the picture needs is of no known kind"
    rows = [at for at, kind in enumerate(kinds) if kind == b"IDAT"]
    if rows and rows[-1] - rows[0] >= len(rows):
        return "another chunk stands between the rows"
    if b"PLTE" in kinds:
        before = kinds[: kinds.index(b"PLTE")]
        if kinds.count(b"PLTE") > 1 or b"IDAT" in before or b"tRNS" in before:
            return "the palette comes twice or too late"
    return None


def _wrong_length(parts: _Parts, colour: int) -> str | None:
    """Why the palette or what is transparent is not as long as it may be, if so."""
    palette, alpha = parts.palette, parts.alpha
    if palette is not None and (len(palette) % 3 or not 0 < len(palette) <= 3 * 256):
        return "the palette's length is wrong"
    wanted = {0: (2,), 2: (6,), 3: range(len(palette or b"") // 3 + 1)}.get(colour)
    if alpha is not None and wanted is not None and len(alpha) not in wanted:
        return "the length of what is transparent is wrong"
    return None


def _essence(parts: _Parts, colour: int) -> bytes:
    made = [MAGIC, chunk(b"IHDR", parts.header)]
    if parts.palette is not None and colour == 3:
        made.append(chunk(b"PLTE", parts.palette))
        if parts.alpha is not None:
            made.append(chunk(b"tRNS", parts.alpha))
    return b"".join((*made, chunk(b"IDAT", b"".join(parts.rows)), chunk(b"IEND", b"")))


def _key(alpha: bytes | None, colour: int) -> tuple[int, ...] | None:
    count = {0: 1, 2: 3}.get(colour)
    if alpha is None or count is None or len(alpha) < 2 * count:
        return None
    return struct.unpack_from(f">{count}H", alpha)


def _significant(bits: bytes | None, colour: int, depth: int) -> int | None:
    """The most significant bits of a colour, where sBIT says what it may: alpha's are left out."""
    if bits is None or colour == 3 or len(bits) != CHANNELS[colour]:
        return None
    most = max(bits[:-1] if colour in (4, 6) else bits)
    return most if 1 <= most <= depth else None


def _unfold(data: bytes, most: int = MOST_PROFILE_BYTES) -> bytes:
    """A compressed profile or text; empty where it is damaged or unfolds to more."""
    stream = zlib.decompressobj()
    try:
        unfolded = stream.decompress(data, most)
    except zlib.error:
        return b""
    return unfolded if stream.eof else b""


def _legacy_exif(kind: bytes, text: bytes) -> bytes | None:
    """As ImageMagick wrote it before there was a chunk for it: hexadecimal after three lines."""
    if kind == b"zTXt":
        text = _unfold(text[1:])
    try:
        return unhexlify(b"".join(text.split(b"\n")[3:]))
    except ValueError:
        return None
