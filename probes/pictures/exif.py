"""How a picture is to be turned, from EXIF or, where that says nothing, from XMP."""

from __future__ import annotations

import re
import struct

ORIENTATION = 0x0112
MOST_ENTRIES = 1024
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """1 to 8; 1, upright, where neither says anything that can be read.

    Args:
        exif: beginning with the TIFF header, or with ``Exif\\0\\0`` before it.
        xmp: the packet.
    """
    found = _from_exif(exif.removeprefix(b"Exif\0\0")) if exif else None
    if found is None and xmp:
        match = _XMP.search(xmp)
        found = int(match.group(1)) if match else None
    return found or 1


def _from_exif(data: bytes) -> int | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for at in range(start + 2, start + 2 + 12 * min(count, MOST_ENTRIES), 12):
            tag, kind, length = struct.unpack_from(order + "HHI", data, at)
            if tag == ORIENTATION:
                layout = {1: "B", 3: "H", 4: "I"}.get(kind)
                if layout is None or length != 1:
                    return None
                (value,) = struct.unpack_from(order + layout, data, at + 8)
                return int(value) if 1 <= value <= 8 else None
    except struct.error:  # it ends early
        pass
    return None
