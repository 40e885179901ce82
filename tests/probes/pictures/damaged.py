"""Files that a strict decoder warns of and a lenient one shows, and random damage to whole ones."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import decode
from tests.probes.pictures.cases import COLOUR, SMOOTH, Pixels, encode, jpeg_plain, jpeg_with
from tests.probes.pictures.writers import (
    SRGB,
    bmp,
    bmp_rows,
    chunk,
    icc,
    packed,
    png,
    samples,
    tiff,
)

Kind = Literal["cut", "zeroed", "flipped"]
KINDS: tuple[Kind, ...] = ("cut", "zeroed", "flipped")


def noisy() -> Pixels:
    """320 x 240, in which no part is like another."""
    image = Image.fromarray(SMOOTH).resize((320, 240))
    noise = np.random.default_rng(1).normal(0, 12, (240, 320, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def _scans(file: bytes) -> list[int]:
    """Where each scan of a JPEG begins, and its end."""
    found = [at for at in range(len(file) - 1) if file[at : at + 2] == b"\xff\xda"]
    return [*found, len(file) - 2]


def _end(file: bytes) -> bytes:
    """A JPEG's data cut, and ended as if it were whole."""
    return file + b"\xff\xd9"


def _sum(file: bytes, kind: bytes) -> bytes:
    """A PNG whose first chunk of a kind has another checksum."""
    at = file.index(kind)
    (length,) = struct.unpack(">I", file[at - 4 : at])
    sum_at = at + 4 + length
    return file[:sum_at] + bytes([file[sum_at] ^ 1]) + file[sum_at + 1 :]


def _jpegs() -> dict[str, bytes]:
    large = encode(noisy(), "JPEG", quality=85)
    progressive = encode(noisy(), "JPEG", quality=85, progressive=True)
    restarts = encode(noisy(), "JPEG", quality=85, restart_marker_rows=1)
    begins = _scans(progressive)
    marker = restarts.index(b"\xff\xd3")
    data = _scans(large)[0] + 20
    quarter = len(large) // 4
    return {
        "jpeg cut in half, and ended": _end(large[: len(large) // 2]),
        "jpeg cut a little, and ended": _end(large[:-100]),
        "jpeg progressive cut, and ended": _end(progressive[: len(progressive) // 2]),
        "jpeg progressive without its last scan": _end(progressive[: begins[-2]]),
        "jpeg progressive without most scans": _end(progressive[: begins[2]]),
        "jpeg zeroed": large[:quarter] + bytes(2000) + large[quarter + 2000 :],
        "jpeg of ones": large[:quarter] + b"\xff\x00" * 1000 + large[quarter + 2000 :],
        "jpeg with data twice": large[: quarter * 3] + large[quarter:],
        "jpeg with data left out": large[:data] + large[quarter:],
        "jpeg without a restart marker": restarts[:marker] + restarts[marker + 2 :],
        "jpeg restart markers in disorder": restarts.replace(b"\xff\xd3", b"\xff\xd5"),
        "jpeg rubbish between segments": large[:20] + b"rubbish" + large[20:],
        "jpeg profile, a piece missing": jpeg_with((0xE2, b"ICC_PROFILE\0\x02\x02" + bytes(9))),
        "jpeg profile of rubbish": jpeg_with((0xE2, b"ICC_PROFILE\0\x01\x01" + b"rubbish" * 50)),
        "jpeg profile cut": jpeg_plain(icc_profile=icc(None, b"GRAY")[:150]),
    }  # fmt: skip


def _pngs() -> dict[str, bytes]:
    whole = png(COLOUR, 2, 8, before=chunk(b"tEXt", b"a\0b") + chunk(b"gAMA", b"\0\0\xb1\x8f"))
    data = whole[whole.index(b"IDAT") + 4 : -16]

    def rows(content: bytes) -> bytes:
        return whole[: whole.index(b"IDAT") - 4] + chunk(b"IDAT", content) + chunk(b"IEND", b"")

    return {
        "png checksum of the rows": _sum(whole, b"IDAT"),
        "png checksum of the header": _sum(whole, b"IHDR"),
        "png checksum of a text": _sum(whole, b"tEXt"),
        "png checksum of the gamma": _sum(whole, b"gAMA"),
        "png checksum of the end": _sum(whole, b"IEND"),
        "png checksum of a palette": _sum(
            png(samples(1, 1), 3, 1, before=chunk(b"PLTE", bytes(range(6)))), b"PLTE"
        ),
        "png without its end": whole[:-12],
        "png end cut": whole[:-3],
        "png more rows than it has": rows(zlib.compress(zlib.decompress(data) + bytes(73))),
        "png a letter in a text": whole.replace(b"a\0b", b"a\0c"),
        "png of 12 bits in 16": png(samples(1, 12), 0, 16),
        "png profile of rubbish": png(
            COLOUR, 2, 8, before=chunk(b"iCCP", b"p\0\0" + zlib.compress(b"rubbish" * 50))
        ),
        "png profile that does not unfold": png(
            COLOUR, 2, 8, before=chunk(b"iCCP", b"p\0\0" + b"rubbish" * 9)
        ),
    }


def _others() -> dict[str, bytes]:
    within = encode(noisy(), "TIFF", compression="jpeg", quality=85)
    zeroed = len(within) // 3
    clear = samples(4, 8, seed=8).astype(np.uint8)
    profile = tiff(COLOUR, 8, 2, icc=icc(None, b"GRAY")[:99])
    indices = samples(1, 8)
    runs = b"".join(
        b"".join(bytes([1, int(one)]) for one in row[:, 0]) + b"\0\0" for row in indices
    )
    grey = bytes(value for level in range(256) for value in (level, level, level, 0))
    return {
        "tiff jpeg zeroed": within[:zeroed] + bytes(3000) + within[zeroed + 3000 :],
        "tiff profile of rubbish": profile,
        "tiff comment cut off": _with_comment()[:-20],
        "bmp run-length without an end": bmp(runs, 8, palette=grey, packing=1),
        "bmp shorter than it says": encode(COLOUR, "BMP")[:2]
        + struct.pack("<I", 9999)
        + encode(COLOUR, "BMP")[6:],
        "bmp index beyond the palette": bmp(bmp_rows(packed(indices, 8)), 8, palette=grey[:64]),
        "bmp that starts in its header": encode(COLOUR, "BMP")[:10]
        + struct.pack("<I", 20)
        + encode(COLOUR, "BMP")[14:],
        "webp without its transparency": _without(encode(clear, "WEBP", quality=80), b"ALPH"),
        "webp without its profile": _without(
            encode(COLOUR, "WEBP", lossless=True, icc_profile=icc(SRGB)), b"ICCP"
        ),
        "webp profile of rubbish": encode(COLOUR, "WEBP", icc_profile=b"rubbish" * 9),
    }


def _without(file: bytes, kind: bytes) -> bytes:
    """A WebP from which a chunk was taken."""
    at = file.index(kind)
    (length,) = struct.unpack_from("<I", file, at + 4)
    rest = file[12:at] + file[at + 8 + length + length % 2 :]
    return b"RIFF" + struct.pack("<I", 4 + len(rest)) + b"WEBP" + rest


def _tables() -> dict[str, bytes]:
    """JPEGs with a 0 in a quantization table."""
    made: dict[str, bytes] = {}
    for name, file in (
        ("jpeg", encode(noisy(), "JPEG")),
        ("jpeg progressive", encode(noisy(), "JPEG", progressive=True)),
        ("tiff jpeg", encode(noisy(), "TIFF", compression="jpeg")),
    ):
        for which, at in (("first", file.index(b"\xff\xdb")), ("last", file.rindex(b"\xff\xdb"))):
            for entry in (0, 63):
                zero = at + 5 + entry
                made[f"{name} {which} table, entry {entry}"] = (
                    file[:zero] + b"\0" + file[zero + 1 :]
                )
    large = encode(noisy(), "JPEG")
    at = large.index(b"\xff\xdb")
    wide = b"".join(b"\0" + bytes([one]) for one in large[at + 5 : at + 68]) + bytes(2)
    segment = b"\xff\xdb" + struct.pack(">HB", 131, 0x10) + wide
    made["jpeg table of 16 bits"] = large[:at] + segment + large[at + 69 :]
    return made


def _structure() -> dict[str, bytes]:
    """PNGs whose chunks each have a right checksum, and that are not what was written."""
    whole = png(COLOUR, 2, 8)
    head, data, end = whole[:33], whole[41:-16], chunk(b"IEND", b"")
    one, two = chunk(b"IDAT", data[:50]), chunk(b"IDAT", data[50:])
    text = chunk(b"tEXt", b"a\0b")
    bits, indices = samples(1, 1), samples(1, 8, seed=5)
    pair = chunk(b"PLTE", bytes(range(6)))
    return {
        "png rubbish behind the rows": head + chunk(b"IDAT", data + b"rubbish") + end,
        "png a piece of rubbish": head + one + two + chunk(b"IDAT", b"rubbish" * 9) + end,
        "png rows interrupted": head + one + text + two + end,
        "png a late empty piece": head + one + two + text + chunk(b"IDAT", b"") + end,
        "png second header": head + head[8:] + one + two + end,
        "png late header": head[:8] + text + head[8:] + one + two + end,
        "png unknown chunk that it needs": head + chunk(b"ABCD", b"x") + one + two + end,
        "png index beyond the palette": png(indices, 3, 8, before=chunk(b"PLTE", bytes(48))),
        "png bit beyond the palette": png(bits, 3, 1, before=chunk(b"PLTE", bytes(3))),
        "png palette of 7 bytes": png(bits, 3, 1, before=chunk(b"PLTE", bytes(range(7)))),
        "png two palettes": png(bits, 3, 1, before=pair * 2),
        "png palette behind alpha": png(bits, 3, 1, before=chunk(b"tRNS", b"\0") + pair),
        "png alpha longer than the palette": png(
            bits, 3, 1, before=pair + chunk(b"tRNS", bytes(3))
        ),
        "png half a transparent colour": png(COLOUR, 2, 8, before=chunk(b"tRNS", bytes(3))),
    }


def _pieces() -> dict[str, bytes]:
    """TIFFs that list fewer strips or tiles than the picture takes, or none where they are."""
    few: dict[str, dict[str, tuple[int, ...]]] = {
        "a strip fewer": {"strips": (8, 440), "counts": (432, 432)},
        "a start fewer": {"strips": (8, 440)},
        "a length fewer": {"counts": (432, 432)},
        "more rows than strips": {"height": (24,)},
        "a strip in the header": {"strips": (8, 0, 872)},
        "a strip of nothing": {"strips": (8, 0, 872), "counts": (432, 0, 432)},
    }
    made = {f"tiff {name}": tiff(COLOUR, 8, 2, rows=6, **tags) for name, tags in few.items()}
    made["tiff a tile"] = tiff(COLOUR, 8, 2, tile=16, tiles=(8,), tile_counts=(768,))
    made["tiff a tile's length"] = tiff(COLOUR, 8, 2, tile=16, tile_counts=(768,) * 3)
    made["tiff big, a strip in the header"] = tiff(COLOUR, 8, 2, big=True, strips=(8,))
    return made


def _ranges() -> dict[str, bytes]:
    """TIFFs whose samples or colours are of another range than the file's."""
    indices, deep = samples(1, 8), samples(1, 14)
    return {
        "tiff 8 bits in a map of 16": tiff(indices, 8, 3, colormap=tuple(range(256)) * 3),
        "tiff 4 bits, dark map": tiff(samples(1, 4), 4, 3, colormap=(255, *[0] * 47)),
        "tiff short map": tiff(indices % 9, 8, 3, colormap=(65535,) * 27),
        "tiff 6 bits in 8": tiff(samples(1, 6), 8, 1, white=(63,)),
        "tiff 7 bits in 8, rgb": tiff(samples(3, 7), 8, 2, white=(127,) * 3),
        "tiff 6 bits in 8, white is zero": tiff(samples(1, 6), 8, 0, white=(63,)),
        "tiff above its range": tiff(deep, 16, 1, white=(4095,)),
        "tiff rgb above its range": tiff(samples(3, 16), 16, 2, white=(16383,)),
        "tiff 12 bits above its range": tiff(samples(1, 12), 12, 1, white=(1023,)),
    }


def _with_comment() -> bytes:
    """A TIFF whose profile, the last in the file, is followed by nothing."""
    return tiff(COLOUR, 8, 2, icc=icc(((0.4, 0.2, 0.0), (0.4, 0.7, 0.1), (0.1, 0.1, 0.7))))


def _with_strip_cut() -> bytes:
    """A deflated TIFF, the end of its first strip zeroed."""
    whole = tiff(COLOUR, 8, 2, compression=8, rows=6)
    stream = zlib.compress(COLOUR[:6].tobytes())
    assert stream in whole
    return whole.replace(stream, stream[:-3] + bytes(3))


@cache
def damaged() -> dict[str, bytes]:
    """Files that show a picture, and are not what was written."""
    return _jpegs() | _tables() | _pngs() | _structure() | _others() | _pieces() | _ranges()


@cache
def lost() -> dict[str, bytes]:
    """Files that nothing is made of: no decoder here shows them."""
    whole, large = png(COLOUR, 2, 8), encode(noisy(), "JPEG", quality=85)
    data = whole[whole.index(b"IDAT") + 4 : -16]
    adler = data[:-1] + bytes([data[-1] ^ 1])
    return {
        "png of another compression": whole[:8]
        + chunk(b"IHDR", whole[16:26] + b"\1" + whole[27:29])
        + whole[33:],
        "png palette of 257": png(samples(1, 1), 3, 1, before=chunk(b"PLTE", bytes(771))),
        "png rows' own checksum": whole[:33] + chunk(b"IDAT", adler) + chunk(b"IEND", b""),
        "png rows zeroed": whole[:99] + bytes(200) + whole[299:],
        "jpeg cut": large[: len(large) // 2],
        "jpeg without its end": large[:-2],
        "jpeg two pictures' starts": large[:2] + large,
        "webp exif cut off": encode(COLOUR, "WEBP", exif=b"x" * 100)[:-20],
        "webp cut": encode(COLOUR, "WEBP")[:-20],
        "bmp cut": encode(COLOUR, "BMP")[:-1],
        "tiff strip cut, and filled up": _with_strip_cut(),
        "tiff cut": tiff(COLOUR, 8, 2)[:200],
        "tiff rows cut": encode(noisy(), "TIFF")[:-1],
    }


WHOLE: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encode(noisy(), "PNG"),
    "JPEG": lambda: encode(noisy(), "JPEG", quality=85),
    "JPEG, progressive": lambda: encode(noisy(), "JPEG", quality=85, progressive=True),
    "JPEG, restart markers": lambda: encode(noisy(), "JPEG", quality=85, restart_marker_rows=1),
    "WebP, lossy": lambda: encode(noisy(), "WEBP", quality=85),
    "WebP, lossless": lambda: encode(noisy()[::2, ::2], "WEBP", lossless=True),
    "BMP": lambda: encode(noisy(), "BMP"),
    "TIFF, raw": lambda: encode(noisy(), "TIFF"),
    "TIFF, deflate": lambda: encode(noisy(), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, LZW": lambda: encode(noisy(), "TIFF", compression="tiff_lzw"),
    "TIFF, JPEG": lambda: encode(noisy(), "TIFF", compression="jpeg", quality=85),
}


def strike(file: bytes, kind: Kind, rng: np.random.Generator) -> bytes:
    """Damage of one kind: cut anywhere, or 1 to 2,047 bytes zeroed or flipped."""
    size, at = int(2 ** rng.uniform(0, 11)), int(rng.integers(len(file)))
    if kind == "cut":
        return file[:at]
    part = np.frombuffer(file[at : at + size], dtype=np.uint8)
    changes = part if kind == "zeroed" else rng.integers(1, 256, len(part)).astype(np.uint8)
    return file[:at] + (part ^ changes).tobytes() + file[at + size :]


def outcomes(name: str, count: int, seed: int = 0) -> Iterator[tuple[Kind, Counter[str]]]:
    """What becomes of damaged copies: refused, marked, harmless (the same pixels), unseen."""
    file = WHOLE[name]()
    whole = decode(file, Limits())
    assert whole.damage is None
    for kind in KINDS:
        rng, told = np.random.default_rng((seed, KINDS.index(kind))), Counter[str]()
        while told.total() < count:
            struck = strike(file, kind, rng)
            if struck == file:  # zeros zeroed
                continue
            told[_outcome(struck, whole.pixels)] += 1
        yield kind, told


def _outcome(file: bytes, pixels: Pixels) -> str:
    try:
        found = decode(file, Limits())
    except PictureRefused:
        return "refused"
    if found.damage is not None:
        return "marked"
    return "harmless" if np.array_equal(found.pixels, pixels) else "unseen"
