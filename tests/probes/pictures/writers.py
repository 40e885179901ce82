"""Writers of picture files by the formats' documents, with what each must look like."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.integer]
HEIGHT, WIDTH = 18, 24
WHITE = 255


def samples(channels: int, depth: int, seed: int = 0) -> Samples:
    """(height, width, channels), over the whole range, both ends included."""
    most = 2**depth - 1
    made = np.random.default_rng(seed).integers(0, most + 1, (HEIGHT, WIDTH, channels))
    made[0, 0], made[0, 1] = 0, most
    return made


def rounded(values: Samples, most: int) -> NDArray[np.uint8]:
    """Scaled to 8 bits, halves up."""
    return np.floor(np.asarray(values, dtype=float) * 255 / most + 0.5).astype(np.uint8)


def rgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey as RGB."""
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values


def on_white(colours: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composited, to the nearest."""
    part = alpha[..., None] / 255
    return np.floor(rgb(colours) * part + 255 * (1 - part) + 0.5).astype(np.uint8)


def packed(rows: Samples, depth: int, order: str = ">") -> bytes:
    """Samples of any depth, each row filled up to whole bytes."""
    flat = rows.reshape(len(rows), -1)
    if depth == 16:
        return flat.astype(f"{order}u2").tobytes()
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _filtered(raw: bytes, line: int, pixel: int, kinds: Sequence[int]) -> bytes:
    """Rows of ``line`` bytes, each by the next of the five filters."""
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(-1, line).astype(int)
    above, made = np.zeros(line, dtype=int), []
    for index, row in enumerate(rows):
        left = np.concatenate([np.zeros(pixel, dtype=int), row[:-pixel]])[:line]
        corner = np.concatenate([np.zeros(pixel, dtype=int), above[:-pixel]])[:line]
        guess = left + above - corner
        far = [abs(guess - one) for one in (left, above, corner)]
        paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left,
                         np.where(far[1] <= far[2], above, corner))  # fmt: skip
        kind = kinds[index % len(kinds)]
        taken = (0 * row, left, above, (left + above) // 2, paeth)[kind]
        made.append(bytes([kind]) + ((row - taken) % 256).astype(np.uint8).tobytes())
        above = row
    return b"".join(made)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip


def png(
    values: Samples,
    colour: int,
    depth: int,
    *,
    interlaced: bool = False,
    filters: Sequence[int] = (0,),
    before: bytes = b"",
    after: bytes = b"",
    piece: int = 2**20,
) -> bytes:
    """A PNG of one colour type; ``before`` and ``after`` are chunks around the rows."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    pixel = max(1, channels * depth // 8)
    parts = [values]
    if interlaced:
        parts = [values[top::down, left::across] for left, top, across, down in PASSES]
    rows = b""
    for part in parts:
        if part.size:
            raw = packed(part, depth)
            rows += _filtered(raw, len(raw) // len(part), pixel, filters)
    data = zlib.compress(rows)
    pieces = [chunk(b"IDAT", data[at : at + piece]) for at in range(0, len(data), piece)]
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + before + b"".join(pieces) + after + chunk(b"IEND", b"")


# TIFF

SHORT, LONG, BYTES = 3, 4, 7
NAMES = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
    "strips": 273, "orientation": 274, "samples": 277, "rows": 278, "counts": 279,
    "planar": 284, "predictor": 317, "colormap": 320, "tile_width": 322, "tile_length": 323,
    "tiles": 324, "tile_counts": 325, "extra": 338, "format": 339, "white": 281, "icc": 34675,
}  # fmt: skip


def tiff(
    values: Samples,
    depth: int,
    photometric: int,
    *,
    order: str = "<",
    big: bool = False,
    compression: int = 1,
    rows: int | None = None,
    tile: int | None = None,
    planar: int = 1,
    following: int = 0,
    **tags: tuple[int, ...] | bytes,
) -> bytes:
    """A TIFF or BigTIFF; ``tags`` are more entries by their names in NAMES."""
    height, width, channels = values.shape
    rows = rows or height
    planes = [values[..., [one]] for one in range(channels)] if planar == 2 else [values]
    pieces: list[bytes] = []
    for plane in planes:
        if tile is None:
            blocks = [plane[at : at + rows] for at in range(0, height, rows)]
        else:
            wide = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            blocks = [
                wide[y : y + tile, x : x + tile]
                for y in range(0, height, tile)
                for x in range(0, width, tile)
            ]
        pieces += [_squeezed(packed(block, depth, order), compression) for block in blocks]
    start, starts = 16 if big else 8, []
    for piece in pieces:
        starts.append(start)
        start += len(piece) + len(piece) % 2
    body = b"".join(piece + bytes(len(piece) % 2) for piece in pieces)
    entries: dict[str, tuple[int, ...] | bytes] = {
        "width": (width,), "height": (height,), "bits": (depth,) * channels,
        "compression": (compression,), "photometric": (photometric,), "samples": (channels,),
        "planar": (planar,),
    }  # fmt: skip
    sizes = tuple(map(len, pieces))
    if tile is None:
        entries |= {"strips": tuple(starts), "rows": (rows,), "counts": sizes}
    else:
        entries |= {"tile_width": (tile,), "tile_length": (tile,), "tiles": tuple(starts),
                    "tile_counts": sizes}  # fmt: skip
    entries |= tags
    return _directory(entries, body, start, order, big, following)


def _squeezed(raw: bytes, compression: int) -> bytes:
    if compression in (8, 32946):
        return zlib.compress(raw)
    if compression == 32773:  # PackBits, as runs of literals
        return b"".join(
            bytes([len(raw[at : at + 128]) - 1]) + raw[at : at + 128]
            for at in range(0, len(raw), 128)
        )
    return raw


def _directory(
    entries: dict[str, tuple[int, ...] | bytes],
    body: bytes,
    start: int,
    order: str,
    big: bool,
    following: int,
) -> bytes:
    offset, many, room = (f"{order}Q", f"{order}Q", 8) if big else (f"{order}I", f"{order}H", 4)
    outside_at = start + struct.calcsize(many) + (20 if big else 12) * len(entries) + room
    listed, outside = b"", b""
    for name, value in sorted(entries.items(), key=lambda one: NAMES[one[0]]):
        long = not isinstance(value, bytes) and (
            name in ("strips", "counts", "tiles", "tile_counts", "width", "height")
        )
        kind = BYTES if isinstance(value, bytes) else LONG if long else SHORT
        data = value if isinstance(value, bytes) else struct.pack(
            f"{order}{len(value)}{'I' if long else 'H'}", *value
        )  # fmt: skip
        head = struct.pack(f"{order}HH", NAMES[name], kind) + struct.pack(offset, len(value))
        if len(data) <= room:
            listed += head + data.ljust(room, b"\0")
        else:
            listed += head + struct.pack(offset, outside_at + len(outside))
            outside += data + bytes(len(data) % 2)
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42)
    head = magic + (struct.pack(f"{order}HHQ", 8, 0, start) if big else struct.pack(offset, start))
    count = struct.pack(many, len(entries))
    return head + body + count + listed + struct.pack(offset, following) + outside


# BMP


def bmp(
    rows: bytes,
    bits: int,
    *,
    palette: bytes = b"",
    packing: int = 0,
    masks: bytes = b"",
    top_down: bool = False,
) -> bytes:
    """A BMP with a 40-byte header, or one of 108 bytes where there are masks."""
    height = -HEIGHT if top_down else HEIGHT
    size = 108 if masks else 40
    start = 14 + size + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII", size, WIDTH, height, 1, bits, packing, len(rows), 2835, 2835,
        len(palette) // 4, 0,
    ) + masks.ljust(size - 40, b"\0")  # fmt: skip
    return struct.pack("<2sIII", b"BM", start + len(rows), 0, start) + info + palette + rows


def bmp_rows(packed_rows: bytes, *, top_down: bool = False) -> bytes:
    """Rows filled up to four bytes, the last first."""
    line = len(packed_rows) // HEIGHT
    rows = [packed_rows[at : at + line] for at in range(0, len(packed_rows), line)]
    filled = [row + bytes(-line % 4) for row in rows]
    return b"".join(filled if top_down else reversed(filled))


# ICC

SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
ROTATED = (SRGB[1], SRGB[2], SRGB[0])
"""Its red is sRGB's green, its green sRGB's blue, its blue sRGB's red."""


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def icc(primaries: Sequence[Sequence[float]] | None, space: bytes = b"RGB ") -> bytes:
    """A display profile with sRGB's curve; ``None`` for a grey one."""
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(
        map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )  # fmt: skip
    white = b"XYZ " + bytes(4) + b"".join(map(_fixed, (0.9642, 1.0, 0.8249)))
    tags = {b"wtpt": white}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        for name, colour in zip((b"r", b"g", b"b"), primaries, strict=True):
            tags[name + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(map(_fixed, colour))
            tags[name + b"TRC"] = curve
    at, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        filled = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(data), len(content))
        data += filled
    size = at + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x04300000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def seen_through(
    values: NDArray[np.uint8], primaries: Sequence[Sequence[float]]
) -> NDArray[np.uint8]:
    """What a display profile's colours are in sRGB, by its definition."""
    part = values / 255
    light = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    light = light @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))
    light = np.clip(light, 0, 1)
    part = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.floor(part * 255 + 0.5).astype(np.uint8)


def exif(orientation: int, order: str = "<", *, kind: int = SHORT) -> bytes:
    """EXIF that says how a picture is to be turned."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHI", 0x0112, kind, 1)
    value = struct.pack(f"{order}{'H' if kind == SHORT else 'I'}", orientation).ljust(4, b"\0")
    return magic + struct.pack(f"{order}IH", 8, 1) + entry + value + bytes(4)


def stored(upright: Samples, orientation: int) -> Samples:
    """As a camera stores a picture that this orientation turns upright."""
    if orientation in (5, 6, 7, 8):
        turned = upright.swapaxes(0, 1)
        return {5: turned, 6: turned[::-1], 7: turned[::-1, ::-1], 8: turned[:, ::-1]}[orientation]
    return {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}[orientation]
