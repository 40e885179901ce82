"""Picture files of every kind that is read, each with the pixels that it must give.

A case is a file, its reference pixels, and how far a pixel may be from them.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.probes.pictures.writers import (
    DISPLAY_P3,
    HEIGHT,
    ROTATED,
    SRGB,
    WIDTH,
    bmp,
    bmp_rows,
    chunk,
    exif,
    icc,
    on_white,
    packed,
    png,
    rgb,
    rounded,
    samples,
    seen_through,
    stored,
    tiff,
)

Pixels = NDArray[np.uint8]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PALETTE = np.random.default_rng(3).integers(0, 256, (256, 3)).astype(np.uint8)
COLOUR = samples(3, 8, seed=5).astype(np.uint8)
GREY = samples(1, 8, seed=6).astype(np.uint8)


@dataclass(frozen=True)
class Case:
    """A file, what it must look like, and the largest difference allowed."""

    file: bytes
    pixels: Pixels
    near: int = 0


def _smooth() -> Pixels:
    """What a lossy format keeps well."""
    down, across = np.mgrid[0 : HEIGHT * 4, 0 : WIDTH * 4]
    planes = [down * 3, across * 2, 255 - down - across]
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


SMOOTH = _smooth()


def encode(image: Image.Image | NDArray[np.uint8], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _png_pixels(values: NDArray[np.integer], colour: int, depth: int) -> Pixels:
    if colour == 3:
        return PALETTE[values[..., 0]]
    scaled = rounded(values, 2**depth - 1)
    if colour in (4, 6):
        return on_white(scaled[..., :-1], scaled[..., -1])
    return rgb(scaled)


def _palette(depth: int) -> bytes:
    return chunk(b"PLTE", PALETTE[: 2**depth].tobytes())


def png_cases() -> dict[str, Case]:
    made: dict[str, Case] = {}
    for colour, depths in PNG_DEPTHS.items():
        for depth in depths:
            values = samples(CHANNELS[colour], depth, seed=depth)
            pixels = _png_pixels(values, colour, depth)
            before = _palette(depth) if colour == 3 else b""
            near = 1 if colour in (4, 6) else 0  # what composites may round otherwise
            for interlaced in (False, True):
                name = f"png {colour} {depth}{' interlaced' * interlaced}"
                file = png(values, colour, depth, interlaced=interlaced, before=before)
                made[name] = Case(file, pixels, near)
            if depth >= 8:
                file = png(values, colour, depth, filters=(4, 3, 2, 1, 0), before=before)
                made[f"png {colour} {depth} filtered"] = Case(file, pixels, near)
            if colour in (0, 2):  # one colour is transparent
                key = values[3, 5]
                clear = (values == key).all(axis=-1)
                keyed = np.where(clear[..., None], 255, pixels).astype(np.uint8)
                alpha = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
                file = png(values, colour, depth, before=alpha)
                made[f"png {colour} {depth} key"] = Case(file, keyed)
            if colour == 3:
                alpha = np.arange(2**depth).astype(np.uint8)[::-1] * (255 // (2**depth - 1))
                shown = on_white(pixels, alpha.astype(np.uint8)[values[..., 0]])
                before += chunk(b"tRNS", alpha.astype(np.uint8).tobytes())
                file = png(values, colour, depth, before=before)
                made[f"png {colour} {depth} clear"] = Case(file, shown, 1)
    return made | _png_dressed()


def _png_dressed() -> dict[str, Case]:
    def dressed(before: bytes = b"", after: bytes = b"", piece: int = 2**20) -> bytes:
        return png(COLOUR, 2, 8, before=before, after=after, piece=piece)

    made = {
        "png many pieces": dressed(piece=7),
        "png empty pieces behind": dressed(after=chunk(b"IDAT", b"") * 2),
        "png empty pieces": dressed(before=chunk(b"IDAT", b"")),
        "png texts": dressed(
            chunk(b"tEXt", b"a\0b"), chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b"))
        ),
        "png time and size": dressed(chunk(b"pHYs", bytes(9)) + chunk(b"tIME", bytes(7))),
        "png unknown chunk": dressed(chunk(b"vpAg", bytes(9))),
        "png suggested palette": dressed(chunk(b"PLTE", bytes(30))),
        "png srgb": dressed(chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 45455))),
        "png broken exif": dressed(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
        "png endless exif": dressed(chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(99))),
        "png orientation 0": dressed(chunk(b"eXIf", exif(0))),
        "png orientation 9": dressed(chunk(b"eXIf", exif(9))),
        "png trailing": dressed() + b"trailing" * 9,
        "png trailing png": dressed() + dressed(),
        "png one frame": dressed(chunk(b"acTL", struct.pack(">II", 1, 0))),
    }
    cases = {name: Case(file, COLOUR) for name, file in made.items()}
    for name, primaries in (("p3", DISPLAY_P3), ("rotated", ROTATED), ("srgb profile", SRGB)):
        profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(icc(primaries)))
        pixels = COLOUR if primaries is SRGB else seen_through(COLOUR, primaries)
        near = 0 if primaries is SRGB else 2
        cases[f"png {name}"] = Case(dressed(profile), pixels, near)
    wide = samples(3, 16, seed=9)
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(icc(ROTATED)))
    shown = seen_through(rounded(wide, 65535), ROTATED)
    cases["png 16 bits rotated"] = Case(png(wide, 2, 16, before=profile), shown, 2)
    clear = samples(4, 8, seed=8).astype(np.uint8)
    shown = on_white(seen_through(clear[..., :3], ROTATED), clear[..., 3])
    cases["png clear rotated"] = Case(png(clear, 6, 8, before=profile), shown, 3)
    grey = chunk(b"iCCP", b"p\0\0" + zlib.compress(icc(None, b"GRAY")))
    cases["png grey profile"] = Case(png(GREY, 0, 8, before=grey), rgb(GREY), 2)
    cases["png colour, grey profile"] = Case(dressed(grey), COLOUR)
    cases["png grey, colour profile"] = Case(png(GREY, 0, 8, before=profile), rgb(GREY), 2)
    for one in range(1, 9):
        turned = stored(COLOUR, one)
        file = png(turned, 2, 8, before=chunk(b"eXIf", exif(one, "<>"[one % 2])))
        cases[f"png orientation {one}"] = Case(file, COLOUR)
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='1' tiff:Orientation=\"6\"/>"
    turned = png(stored(COLOUR, 6), 2, 8, before=chunk(b"iTXt", xmp))
    cases["png orientation xmp"] = Case(turned, COLOUR)
    late = png(stored(COLOUR, 3), 2, 8, after=chunk(b"eXIf", exif(3)))
    cases["png orientation late"] = Case(late, COLOUR)
    return cases


def tiff_cases() -> dict[str, Case]:
    made: dict[str, Case] = {}
    for order, letters in (("<", "II"), (">", "MM")):

        def add(name: str, pixels: Pixels, near: int, *args: object, **options: object) -> None:
            file = tiff(*args, order=order, **options)  # type: ignore[arg-type]  # noqa: B023
            made[f"tiff {letters} {name}"] = Case(file, pixels, near)  # noqa: B023

        for depth in (1, 2, 4, 8):
            values = samples(1, depth, seed=depth)
            pixels = rgb(rounded(values, 2**depth - 1))
            add(f"grey {depth}", pixels, 0, values, depth, 1)
            add(f"white is zero {depth}", 255 - pixels, 0, values, depth, 0)
        wide = samples(1, 16, seed=7)
        shown = rgb(rounded(wide, 65535))
        add("grey 16", shown, 0, wide, 16, 1)
        add("white is zero 16", 255 - shown, 1, wide, 16, 0)
        for bits in (10, 12, 14):
            few = samples(1, bits, seed=bits)
            shown_few = rgb(rounded(few, 2**bits - 1))
            add(f"{bits} in 16", shown_few, 0, few, 16, 1, white=(2**bits - 1,))
        add("rgb", COLOUR, 0, COLOUR, 8, 2)
        add("rgb planes", COLOUR, 0, COLOUR, 8, 2, planar=2)
        add("rgb tiles", COLOUR, 0, COLOUR, 8, 2, tile=16)
        add("rgb strips", COLOUR, 0, COLOUR, 8, 2, rows=5)
        deep = samples(3, 16, seed=9)
        shown_deep = rounded(deep, 65535)
        add("rgb 16", shown_deep, 0, deep, 16, 2)
        add("rgb 16 deflated", shown_deep, 0, deep, 16, 2, compression=8)
        add("grey 16 deflated", shown, 0, wide, 16, 1, compression=8, rows=4)
        add("white is zero 16 deflated", 255 - shown, 1, wide, 16, 0, compression=8)
        add("rgb deflated", COLOUR, 0, COLOUR, 8, 2, compression=32946, rows=7)
        add("rgb packed", COLOUR, 0, COLOUR, 8, 2, compression=32773)
        add("rgb deflated tiles", COLOUR, 0, COLOUR, 8, 2, compression=8, tile=16)
        clear = samples(4, 8, seed=8).astype(np.uint8)
        add("rgba", on_white(clear[..., :3], clear[..., 3]), 1, clear, 8, 2, extra=(2,))
        add("rgbx", clear[..., :3], 0, clear, 8, 2, extra=(0,))
        mixed = (clear[..., :3].astype(int) * clear[..., 3:] // 255).astype(np.uint8)
        ready = np.concatenate([mixed, clear[..., 3:]], axis=-1)
        added = mixed.astype(int) + 255 - clear[..., 3:]
        add("rgba premultiplied", added.astype(np.uint8), 2, ready, 8, 2, extra=(1,))
        deep_clear = samples(4, 16, seed=10)
        eight = rounded(deep_clear, 65535)
        pixels = on_white(eight[..., :3], eight[..., 3])
        add("rgba 16", pixels, 1, deep_clear, 16, 2, extra=(2,))
        pair = samples(2, 8, seed=11).astype(np.uint8)
        add("grey alpha", on_white(pair[..., :1], pair[..., 1]), 1, pair, 8, 1, extra=(2,))
        colormap = tuple(int(one) * 257 for one in PALETTE.T.reshape(-1))
        indices = samples(1, 8, seed=12)
        add("palette", PALETTE[indices[..., 0]], 0, indices, 8, 3, colormap=colormap)
        ink = samples(4, 8, seed=13).astype(np.uint8)
        paper = 255 - ink[..., :3].astype(int)
        shown_ink = np.floor(paper * (255 - ink[..., 3:].astype(int)) / 255 + 0.5)
        add("cmyk", shown_ink.astype(np.uint8), 1, ink, 8, 5)
        add("rotated", seen_through(COLOUR, ROTATED), 2, COLOUR, 8, 2, icc=icc(ROTATED))
        add("p3", seen_through(COLOUR, DISPLAY_P3), 2, COLOUR, 8, 2, icc=icc(DISPLAY_P3))
        if order == "<":
            add("big", COLOUR, 0, COLOUR, 8, 2, big=True)
            add("big grey 16", shown, 0, wide, 16, 1, big=True)
        for one in (2, 3, 6, 8):
            turned = stored(COLOUR, one)
            add(f"orientation {one}", COLOUR, 0, turned, 8, 2, orientation=(one,))
        turned = stored(wide, 6)
        add("orientation 6 of 16 bits", shown, 0, turned, 16, 1, orientation=(6,))
    few = samples(1, 12, seed=12)
    made["tiff 12 bits"] = Case(tiff(few, 12, 1), rgb(rounded(few, 4095)))
    made["tiff 12 bits, strips"] = Case(tiff(few, 12, 1, rows=5), rgb(rounded(few, 4095)))
    made["tiff 10 in 12 bits"] = Case(
        tiff(few >> 2, 12, 1, white=(1023,)), rgb(rounded(few >> 2, 1023))
    )
    made["tiff 8 bits, and says so"] = Case(tiff(COLOUR, 8, 2, white=(255,)), COLOUR)
    made["tiff 8 bits, statistics"] = Case(tiff(COLOUR, 8, 2, white=(200,)), COLOUR)
    made["tiff trailing"] = Case(tiff(COLOUR, 8, 2) + b"trailing", COLOUR)
    for packing in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "tiff_lzma"):
        file = encode(COLOUR, "TIFF", compression=packing)
        made[f"tiff {packing}"] = Case(file, COLOUR)
    file = encode(COLOUR, "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    made["tiff lzw predictor"] = Case(file, COLOUR)
    for packing in ("group3", "group4", "tiff_ccitt"):
        bits = samples(1, 1, seed=4)
        image = Image.fromarray(bits[..., 0].astype(np.uint8) * 255).convert("1")
        made[f"tiff {packing}"] = Case(
            encode(image, "TIFF", compression=packing), rgb(rounded(bits, 1))
        )
    file = encode(SMOOTH, "TIFF", compression="jpeg", quality=95)
    made["tiff jpeg"] = Case(file, SMOOTH, 14)
    return made


def jpeg_plain(**options: object) -> bytes:
    return encode(SMOOTH, "JPEG", **{"quality": 95, **options})


def jpeg_with(*segments: tuple[int, bytes], **options: object) -> bytes:
    """Segments put behind the start of a plain JPEG."""
    file = jpeg_plain(**options)
    made = b"".join(
        bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments
    )
    return file[:2] + made + file[2:]


def jpeg_cases() -> dict[str, Case]:
    thumbnail = encode(SMOOTH[::8, ::8], "JPEG")
    picture = encode(Image.fromarray(SMOOTH).resize((40, 30)), "JPEG")
    plain = jpeg_plain()
    frame = plain.index(b"\xff\xc0")
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="1"/>'
    made = {
        "plain": plain,
        "4:4:4": jpeg_plain(subsampling=0),
        "4:2:2": jpeg_plain(subsampling=1),
        "4:2:0": jpeg_plain(subsampling=2),
        "progressive": jpeg_plain(progressive=True),
        "optimized": jpeg_plain(optimize=True),
        "restart markers": jpeg_plain(restart_marker_rows=1),
        "restart markers, many": jpeg_plain(restart_marker_blocks=1),
        "restart markers, progressive": jpeg_plain(restart_marker_blocks=3, progressive=True),
        "colours as they are": jpeg_plain(keep_rgb=True),
        "comment": jpeg_plain(comment=b"\xff\xd9 \xff\xda" * 99),
        "exif junk": jpeg_with((0xE1, b"Exif\0\0" + b"\xff\xda\xff\xd9" * 50)),
        "exif cut": jpeg_with((0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff")),
        "exif loop": jpeg_with((0xE1, b"Exif\0\0" + exif(1)[:-4] + struct.pack("<I", 8))),
        "exif thumbnail": jpeg_with((0xE1, b"Exif\0\0" + exif(1) + thumbnail)),
        "exif orientation of a long": jpeg_with((0xE1, b"Exif\0\0" + exif(1, kind=4))),
        "exif orientation 77": jpeg_with((0xE1, b"Exif\0\0" + exif(77))),
        "xmp": jpeg_with((0xE1, xmp)),
        "photoshop": jpeg_with((0xED, b"Photoshop 3.0\0" + bytes(99))),
        "many segments": jpeg_with(*[(0xE5, bytes(99))] * 300),
        "fill bytes": plain[:frame] + b"\xff" * 9 + plain[frame:],
        "fill bytes before the end": plain[:-2] + b"\xff\xff\xff\xd9",
        "trailing": plain + b"trailing" * 99,
        "trailing zeros": plain + bytes(4096),
        "trailing picture": plain + picture,
        "srgb profile": jpeg_plain(icc_profile=icc(SRGB)),
        "multi-picture index": jpeg_with((0xE2, b"MPF\0" + bytes(60))),
    }
    near = {"4:2:2": 20, "4:2:0": 20}
    cases = {f"jpeg {name}": Case(file, SMOOTH, near.get(name, 20)) for name, file in made.items()}
    for name, primaries in (("rotated", ROTATED), ("p3", DISPLAY_P3)):
        file = jpeg_plain(subsampling=0, quality=100, icc_profile=icc(primaries))
        cases[f"jpeg {name}"] = Case(file, seen_through(SMOOTH, primaries), 14)
    long = icc(ROTATED) + bytes(90_000)  # in two pieces
    long = struct.pack(">I", len(long)) + long[4:]
    file = jpeg_plain(subsampling=0, quality=100, icc_profile=long)
    cases["jpeg profile in pieces"] = Case(file, seen_through(SMOOTH, ROTATED), 14)
    for one in range(1, 9):
        turned = np.ascontiguousarray(stored(SMOOTH, one))
        file = encode(turned, "JPEG", quality=95, subsampling=0)
        data = b"Exif\0\0" + exif(one, "<>"[one % 2])
        segment = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
        cases[f"jpeg orientation {one}"] = Case(file[:2] + segment + file[2:], SMOOTH, 14)
    grey = SMOOTH[..., :1]
    cases["jpeg grey"] = Case(encode(grey[..., 0], "JPEG", quality=95), rgb(grey), 14)
    file = encode(grey[..., 0], "JPEG", quality=95, progressive=True)
    cases["jpeg grey progressive"] = Case(file, rgb(grey), 14)
    ink = Image.fromarray(SMOOTH).convert("CMYK")
    cases["jpeg cmyk"] = Case(encode(ink, "JPEG", quality=95), SMOOTH, 14)
    file = encode(ink, "JPEG", quality=95, progressive=True)
    cases["jpeg cmyk progressive"] = Case(file, SMOOTH, 14)
    phone = encode(
        SMOOTH, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))], quality=95
    )
    cases["jpeg of a phone, two pictures"] = Case(phone, SMOOTH, 20)
    return cases


def webp_cases() -> dict[str, Case]:
    image = Image.fromarray(COLOUR)
    clear = samples(4, 8, seed=8).astype(np.uint8)
    pixels = on_white(clear[..., :3], clear[..., 3])
    lossless = encode(image, "WEBP", lossless=True)
    made = {
        "webp lossless": Case(lossless, COLOUR),
        "webp lossy": Case(encode(SMOOTH, "WEBP", quality=95), SMOOTH, 20),
        "webp clear": Case(encode(clear, "WEBP", lossless=True, exact=True), pixels, 1),
        "webp trailing": Case(lossless + b"trailing" * 9, COLOUR),
        "webp xmp": Case(encode(image, "WEBP", lossless=True, xmp=b"<x/>"), COLOUR),
        "webp exif junk": Case(encode(image, "WEBP", lossless=True, exif=b"junk" * 9), COLOUR),
    }
    for name, primaries in (("rotated", ROTATED), ("p3", DISPLAY_P3)):
        file = encode(image, "WEBP", lossless=True, icc_profile=icc(primaries))
        made[f"webp {name}"] = Case(file, seen_through(COLOUR, primaries), 2)
    for one in (3, 5, 6, 8):
        turned = Image.fromarray(np.ascontiguousarray(stored(COLOUR, one)))
        file = encode(turned, "WEBP", lossless=True, exif=exif(one))
        made[f"webp orientation {one}"] = Case(file, COLOUR)
    return made


def bmp_cases() -> dict[str, Case]:
    made: dict[str, Case] = {}
    for top_down in (False, True):
        name = "bmp top-down" if top_down else "bmp"
        rows = bmp_rows(COLOUR[..., ::-1].tobytes(), top_down=top_down)
        made[f"{name} 24"] = Case(bmp(rows, 24, top_down=top_down), COLOUR)
        for depth in (1, 4, 8):
            indices = samples(1, depth, seed=depth)
            table = np.concatenate([PALETTE[: 2**depth, ::-1], np.zeros((2**depth, 1))], axis=1)
            rows = bmp_rows(packed(indices, depth), top_down=top_down)
            file = bmp(rows, depth, palette=table.astype(np.uint8).tobytes(), top_down=top_down)
            made[f"{name} {depth}"] = Case(file, PALETTE[indices[..., 0]])
    indices = samples(1, 8, seed=8)
    table = (
        np.concatenate([PALETTE[:, ::-1], np.zeros((256, 1))], axis=1).astype(np.uint8).tobytes()
    )
    runs = b"".join(
        b"".join(bytes([1, one]) for one in row[:, 0].tolist()) + b"\0\0" for row in indices[::-1]
    )
    made["bmp run-length"] = Case(
        bmp(runs + b"\0\1", 8, palette=table, packing=1), PALETTE[indices[..., 0]]
    )
    small = samples(3, 5, seed=5)
    word = (small[..., 0] << 10 | small[..., 1] << 5 | small[..., 2]).astype("<u2")
    made["bmp 16"] = Case(bmp(bmp_rows(word.tobytes()), 16), rounded(small, 31), 1)
    return made | _bmp_masks() | _bmp_palettes() | _bmp_dressed()


def _bmp_masks() -> dict[str, Case]:
    """16 and 32 bits, where masks say which bits are whose."""
    made: dict[str, Case] = {}
    for name, masks, bits in (
        ("5-6-5", (0xF800, 0x7E0, 0x1F), (5, 6, 5)),
        ("x-5-5-5", (0x7C00, 0x3E0, 0x1F), (5, 5, 5)),
        ("x-8-8-8", (0xFF0000, 0xFF00, 0xFF), (8, 8, 8)),
    ):
        parts = [samples(1, one, seed=at)[..., 0] for at, one in enumerate(bits)]
        red, green, blue = parts
        wide = 32 if name == "x-8-8-8" else 16
        word = red << (bits[1] + bits[2]) | green << bits[2] | blue
        rows = bmp_rows(word.astype(f"<u{wide // 8}").tobytes())
        pixels = [rounded(part, 2**one - 1) for part, one in zip(parts, bits, strict=True)]
        shown = np.stack(pixels, axis=-1)
        listed = struct.pack("<3I", *masks)
        long, short = {"masks": listed}, {"palette": listed}  # in the header, or behind it
        for header, where in (("long", long), ("short", short)):
            file = bmp(rows, wide, packing=3, **where)  # type: ignore[arg-type]
            made[f"bmp {name}, {header} header"] = Case(file, shown, 1)
    return made


def _bmp_palettes() -> dict[str, Case]:
    """Palettes of fewer colours than the bits can tell apart."""
    made: dict[str, Case] = {}
    black_and_white = np.array([[0, 0, 0], [255, 255, 255]], dtype=np.uint8)
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[:, None], 3, axis=1)
    for depth in (4, 8):
        for name, table in (("2", black_and_white), ("9 greys", ramp), ("5", PALETTE[:5])):
            indices = samples(1, 8, seed=depth) % len(table)
            rows, shown = bmp_rows(packed(indices, depth)), table[indices[..., 0]]
            four = np.concatenate([table[:, ::-1], np.zeros((len(table), 1), np.uint8)], axis=1)
            file = bmp(rows, depth, palette=four.tobytes())
            made[f"bmp {depth}, palette of {name}"] = Case(file, shown)
            start = 26 + 3 * len(table)
            head = struct.pack("<2sIII", b"BM", start + len(rows), 0, start)
            info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, depth)
            file = head + info + table[:, ::-1].tobytes() + rows
            made[f"bmp of OS/2 {depth}, palette of {name}"] = Case(file, shown)
    return made


def _bmp_dressed() -> dict[str, Case]:
    made: dict[str, Case] = {}
    made["bmp pillow"] = Case(encode(COLOUR, "BMP"), COLOUR)
    made["bmp trailing"] = Case(encode(COLOUR, "BMP") + b"%PDF", COLOUR)
    clear = samples(4, 8, seed=8).astype(np.uint8)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = bmp_rows(np.ascontiguousarray(clear[..., [2, 1, 0, 3]]).tobytes())
    pixels = on_white(clear[..., :3], clear[..., 3])
    made["bmp clear"] = Case(bmp(rows, 32, packing=3, masks=masks), pixels, 1)
    return made


@cache
def cases() -> dict[str, Case]:
    """All of them, by name."""
    return png_cases() | tiff_cases() | jpeg_cases() | webp_cases() | bmp_cases()
