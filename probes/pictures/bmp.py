"""BMP: a header and rows, raw or run-length encoded. No checksum; only what is missing is seen."""

from __future__ import annotations

import struct

from probes.pictures.container import Container, damaged

RLE8, RLE4 = 1, 2
EMBEDDED = b"DEBM"
"""The colour space 'MBED' of a version 5 header: a profile lies in the file."""


def take_apart(file: bytes) -> Container:
    """Read the headers. Raises PictureRefused where there is no picture to decode."""
    try:
        told, start, size = struct.unpack_from("<I4xII", file, 2)
        layout = "<HHHH" if size == 12 else "<iiHHI"
        width, height, _, bits, *packing = struct.unpack_from(layout, file, 18)
        used = 0 if size == 12 else struct.unpack_from("<I", file, 46)[0]
    except struct.error as error:
        raise damaged() from error
    table = 14 + size
    colours = (used or 2**bits) if bits <= 8 else 0
    if start in (0, table):  # as some write it, whatever the palette's size
        start = table + _entry(size) * colours
    damage = "the file is cut short" if told > len(file) else None
    if start < table:
        damage = damage or "the picture starts in the header"
    elif bits <= 8:
        colours = min(colours, (start - table) // _entry(size))
    short = bits <= 8 and colours != 2**bits
    if packing and packing[0] in (RLE8, RLE4):
        damage = damage or _run_length_damage(file, start, packing[0])
    profile = _profile(file, size)
    if profile == b"":
        damage = damage or "the profile is damaged"
    return Container(
        "BMP",
        abs(width),
        abs(height),
        _essence(file, bits, colours, start, size) if short else file,
        profile=profile or None,
        colours=colours if short else None,
        damage=damage,
    )


def find_damage(picture: Container) -> None:
    """Nothing: decoding refuses rows that are missing."""


def _essence(file: bytes, bits: int, colours: int, start: int, size: int) -> bytes:
    """The file with its palette filled up.

    Pillow takes one of black and white, or of greys in order, for samples of 1 or 8 bits.
    """
    each, table, full = _entry(size), 14 + size, 2**bits
    palette = file[table : table + each * min(colours, full)].ljust(each * full, b"\0")
    head = bytearray(file[:table])
    struct.pack_into("<I", head, 10, table + len(palette))
    if size > 12:
        struct.pack_into("<I", head, 46, full)
    return bytes(head) + palette + file[start:]


def _entry(size: int) -> int:
    """Bytes of a colour in the palette."""
    return 3 if size == 12 else 4


def _run_length_damage(file: bytes, at: int, packing: int) -> str | None:
    """Why the codes do not reach the mark that ends the picture, if they do not."""
    while at + 1 < len(file):
        count, value = file[at], file[at + 1]
        at += 2
        if count:
            continue
        if value == 1:
            return None
        if value == 2:
            at += 2
        elif value > 2:
            size = value if packing == RLE8 else (value + 1) // 2
            at += size + size % 2
    return "the compressed data does not reach its end"


def _profile(file: bytes, size: int) -> bytes | None:
    """The embedded profile: None where there is none, empty where it lies outside the file."""
    if size < 124 or file[14 + 56 : 14 + 60] != EMBEDDED or len(file) < 14 + 124:
        return None
    start, length = struct.unpack_from("<II", file, 14 + 112)
    data = file[14 + start : 14 + start + length]
    return data if len(data) == length else b""
