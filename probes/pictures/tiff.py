"""TIFF and BigTIFF: a directory of entries that point at strips or tiles.

Raw data carries no checksum. Deflate does, and JPEG says what libjpeg warns of; the other ways of
compressing say only that data is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from probes.pictures.container import (
    MOST_PARTS,
    Container,
    PictureRefused,
    damaged,
    too_many_parts,
)
from probes.pictures.jpeg import damage_of
from probes.pictures.png import check_zlib

MOST_STRIPS = 2**16
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
WHITES = 281, 341
"""MaxSampleValue and SMaxSampleValue."""
ORIENTATION, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES, FORMAT = 274, 322, 323, 324, 325, 339
JPEG_TABLES, PROFILE, COLOUR_MAP = 347, 34675, 320
KEPT = frozenset({WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, STRIP_BYTES,
                  PLANAR, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES, FORMAT, JPEG_TABLES,
                  266, 292, 293, 317, COLOUR_MAP, 338, 512, 513, 514, 515, 519, 520, 521, 529, 530,
                  531, 532})  # fmt: skip
"""What the picture is decoded from; not EXIF, comments, thumbnails or a next picture."""
KINDS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q",
         18: "Q"}  # fmt: skip
SIZES = {**{kind: struct.calcsize(code) for kind, code in KINDS.items()}, 5: 8, 10: 8, 11: 4, 12: 8}
RAW, JPEG, DEFLATE = 1, 7, (8, 32946)
MIN_IS_WHITE, PALETTE, Y_CB_CR = 0, 3, 6
_BIG = 43


@dataclass(frozen=True, slots=True)
class Directory:
    """The first picture's entries.

    Args:
        order: of bytes, as ``struct`` writes it. big: BigTIFF.
        entries: per tag its bytes in the directory, tag and all, and whether its value is whole.
        following: where the next picture's directory is; 0 for none.
    """

    file: bytes
    order: str
    big: bool
    entries: Mapping[int, tuple[bytes, bool]]
    following: int

    @property
    def whole(self) -> bool:
        """Whether all values lie inside the file."""
        return all(whole for _, whole in self.entries.values())

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The integers of an entry; the default where it is missing or no integer."""
        entry, whole = self.entries.get(tag, (b"", False))
        if not whole:
            return default
        kind, count, at = _place(self.file, entry, self.order, self.big)
        code = KINDS.get(kind)
        if code is None:
            return default
        source = entry if at is None else self.file
        start = (12 if self.big else 8) if at is None else at
        return struct.unpack_from(f"{self.order}{count}{code}", source, start)

    def number(self, tag: int, default: int) -> int:
        """The first integer of an entry."""
        return self.numbers(tag, (default,))[0]

    def content(self, tag: int) -> bytes:
        """An entry's bytes; empty where it is missing."""
        return bytes(value & 255 for value in self.numbers(tag))


def take_apart(file: bytes) -> Container:
    """Read the first directory. Raises PictureRefused where there is no picture to decode."""
    found = _directory(file)
    width, height = found.number(WIDTH, 0), found.number(LENGTH, 0)
    if set(found.numbers(FORMAT, (1,))) != {1}:
        raise PictureRefused(
            "samples that are signed or floating have no fixed range; convert to 8 or 16 bits"
        )
    depth = max(found.numbers(BITS, (1,)))
    if depth > 8 and found.number(PLANAR, 1) == 2:
        raise PictureRefused(
            "planes of more than 8 bits are not read; store a pixel's samples together, or convert "
            "to 8 bits"
        )
    grey = found.number(SAMPLES, 1) == 1
    inverted = grey and depth > 8 and found.number(PHOTOMETRIC, 1) == MIN_IS_WHITE
    _check_pieces(found, width, height)
    profile = found.content(PROFILE)
    return Container(
        "TIFF",
        width,
        height,
        _essence(found, inverted),
        pictures=2 if found.following else 1,
        orientation=_valid(found.number(ORIENTATION, 1)),
        profile=profile or None,
        depth=depth,
        white=_white(found, depth),
        told=16 if depth == 16 and _most(found) == 65535 else None,
        inverted=inverted,
        damage=_damage(found, width, height, depth),
    )


def find_damage(picture: Container) -> str | None:
    """Why the strips or tiles are not what was written, where their compression tells."""
    found = _directory(picture.essence)
    packing = found.number(COMPRESSION, RAW)
    tables = found.content(JPEG_TABLES)[:-2]
    for start, length, least, most in _pieces(found, picture.width, picture.height):
        data = found.file[start : start + length]
        if packing == RAW and length < least:
            return "a strip or tile has fewer bytes than it takes"
        if packing in DEFLATE:
            damage = check_zlib(data, least, most)
        elif packing == JPEG:
            damage = damage_of(tables + data[2:] if tables else data)
        else:
            continue
        if damage is not None:
            return damage
    return None


def _directory(file: bytes) -> Directory:
    """Read the first directory. Raises PictureRefused."""
    order = "<" if file[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(order + "H", file, 2)[0] == _BIG
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), file, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), file, start)
        if big and order == ">":
            raise PictureRefused("BigTIFF with the high byte first is not read; save it as TIFF")
        if count > MOST_PARTS:
            raise too_many_parts("entries", MOST_PARTS)
        size, start = (20, start + 8) if big else (12, start + 2)
        entries: dict[int, tuple[bytes, bool]] = {}
        for at in range(start, start + size * count, size):
            entry = file[at : at + size]
            (tag,) = struct.unpack_from(order + "H", entry)
            kind, length, place = _place(file, entry, order, big)
            whole = place is None or place + length * SIZES.get(kind, 1) <= len(file)
            entries.setdefault(tag, (entry, whole))
        end = start + size * count
        tail = file[end : end + (8 if big else 4)]
        following = int.from_bytes(tail, "little" if order == "<" else "big")
    except struct.error as error:
        raise damaged() from error
    return Directory(file, order, big, entries, following)


def _place(file: bytes, entry: bytes, order: str, big: bool) -> tuple[int, int, int | None]:
    """An entry's kind, its count, and where its value lies; None: in the entry itself."""
    kind, count = struct.unpack_from(order + ("HQ" if big else "HI"), entry, 2)
    if count * SIZES.get(kind, 1) <= (8 if big else 4):
        return kind, count, None
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), entry, 12 if big else 8)
    return kind, count, at


def _check_pieces(found: Directory, width: int, height: int) -> None:
    """Raise PictureRefused where strips or tiles are too many, too small, or beyond the end."""
    tile = found.number(TILE_WIDTH, 16), found.number(TILE_LENGTH, 16)
    pieces = max(len(found.numbers(STRIPS)), len(found.numbers(TILES)))
    if min(tile) < 16 or pieces > MOST_STRIPS or found.number(SAMPLES, 1) > 8:
        raise too_many_parts("strips or tiles of use", MOST_STRIPS)
    raw, size = found.number(COMPRESSION, RAW) == RAW, len(found.file)
    for start, length, least, _ in _pieces(found, width, height):
        if start + (least if raw else length) > size:
            raise damaged()


def _damage(found: Directory, width: int, height: int, depth: int) -> str | None:
    """What the entries alone show to be broken or in doubt, if anything."""
    if not found.whole:
        return "the file is cut short"
    starts, lengths = _listed(found)
    if not len(starts) == len(lengths) >= _expected(found, width, height):
        return "strips or tiles are missing"
    header = 16 if found.big else 8
    if any(start < header for start in starts):
        return "a strip or tile lies in the header"
    if found.number(PHOTOMETRIC, 1) != PALETTE:
        most = _most(found)
        dark = depth <= 8 and most in {2**bits - 1 for bits in range(1, depth)}
        return f"samples up to {most} in {depth} bits: scale them" if dark else None
    colours = found.numbers(COLOUR_MAP)
    if len(colours) != 3 * 2**depth:
        return "the colour map's length is wrong"
    return "the colour map is of 8 bits, not of 16" if 0 < max(colours) < 256 else None


def _listed(found: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the strips or tiles start, and their bytes."""
    if TILES in found.entries:
        return found.numbers(TILES), found.numbers(TILE_BYTES)
    return found.numbers(STRIPS), found.numbers(STRIP_BYTES)


def _rows(found: Directory, height: int) -> int:
    """The rows of a strip or tile."""
    if TILES in found.entries:
        return found.number(TILE_LENGTH, 16)
    return max(1, min(found.number(ROWS, height), height))


def _expected(found: Directory, width: int, height: int) -> int:
    """How many strips or tiles the picture takes."""
    across = -(-width // found.number(TILE_WIDTH, 16)) if TILES in found.entries else 1
    planes = found.number(SAMPLES, 1) if found.number(PLANAR, 1) == 2 else 1
    return planes * across * -(-height // _rows(found, height))


def _pieces(found: Directory, width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Each strip or tile: where it starts, its bytes, and the least and most that it unpacks to.

    Writers may fill the last strip up. Of subsampled colours no least is known.
    """
    tiled = TILES in found.entries
    starts, lengths = _listed(found)
    samples, bits = found.number(SAMPLES, 1), found.numbers(BITS, (1,))
    separate = found.number(PLANAR, 1) == 2
    pixel = max(bits) * (1 if separate else samples)
    columns = found.number(TILE_WIDTH, 16) if tiled else width
    rows = _rows(found, height)
    line, each = (columns * pixel + 7) // 8, -(-height // rows)
    subsampled = found.number(PHOTOMETRIC, 1) == Y_CB_CR
    for index, (start, length) in enumerate(zip(starts, lengths, strict=False)):
        last = not tiled and index % each == each - 1
        least = (height - (each - 1) * rows if last else rows) * line
        yield start, length, 0 if subsampled else least, rows * line


def _essence(found: Directory, inverted: bool) -> bytes:
    """The file with a directory of the picture alone at its end; 0 made black where we invert."""
    order, big = found.order, found.big
    kept = [entry for tag, (entry, whole) in sorted(found.entries.items()) if tag in KEPT and whole]
    if inverted:
        at = 12 if big else 8
        kept = [
            entry[:at] + struct.pack(order + "H", 1) + entry[at + 2 :]
            if struct.unpack_from(order + "H", entry)[0] == PHOTOMETRIC
            else entry
            for entry in kept
        ]
    start = len(found.file) + len(found.file) % 2
    count = struct.pack(order + ("Q" if big else "H"), len(kept))
    none = bytes(8 if big else 4)
    head = found.file[: 8 if big else 4] + struct.pack(order + ("Q" if big else "I"), start)
    body = found.file[len(head) :] + bytes(len(found.file) % 2)
    return b"".join((head, body, count, *kept, none))


def _white(found: Directory, depth: int) -> int | None:
    """The range of samples of more than 8 bits, where the file says that it is of fewer bits.

    The entry is there for statistics, so only what can be a range is believed: 1023, 4095, ...
    """
    most = _most(found)
    bits = most.bit_length()
    return most if 9 <= bits < depth and most == 2**bits - 1 else None


def _most(found: Directory) -> int:
    """The largest sample value that the file says it may hold; 0 where it says none."""
    return max(max(found.numbers(tag, (0,))) for tag in WHITES)


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1
