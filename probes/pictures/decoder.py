"""Bytes -> one upright RGB picture, with every limit checked before a pixel is decoded."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from probes.pictures import bmp, jpeg, png, tiff, webp
from probes.pictures.colour import ProfileError, to_8_bit, to_srgb
from probes.pictures.container import Container, Limits, PictureRefused, damaged, too_many_parts
from probes.types import ImageArray

FORMATS: tuple[tuple[str, Callable[[bytes], bool], ModuleType], ...] = (
    ("PNG", lambda file: file.startswith(png.MAGIC), png),
    ("JPEG", lambda file: file.startswith(jpeg.MAGIC), jpeg),
    ("WEBP", lambda file: file.startswith(b"RIFF") and file[8:12] == b"WEBP", webp),
    ("BMP", lambda file: file.startswith(b"BM"), bmp),
    ("TIFF", lambda file: file.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), tiff),
)
"""Pillow's name, whether a file begins so, and what takes it apart."""
MAX_ASPECT_RATIO = 100
"""Longer side over shorter: beyond, processors that scale by the shorter side exhaust memory."""
MOST_SCANNED = 8
"""Times the most pixels that all scans of a picture may go over."""
AMBIGUOUS_BITS = 14
"""16-bit samples that all fit into them may be 10, 12 or 14 bits, and may be dark."""
_REFUSED = {
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"8BPS": "Photoshop",
    b"\x00\x00\x01\x00": "ICO",
}
_ACCEPTED = "send PNG, JPEG, WebP, BMP or TIFF"
_MODES_8BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_MODES_16BIT = {"I;16", "I;16B", "I;16L"}
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Orientation to the transpose that undoes it."""
# What Pillow's decoders raise on damaged files, beside their own errors.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, ArithmeticError,
                   LookupError, TypeError, AssertionError, Warning)  # fmt: skip
"""What an odd file raises in Pillow, which asserts what a good one has (a palette, say)."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded picture.

    Args:
        pixels: RGB, uint8, shape (height, width, 3), upright, opaque, sRGB.
        damage: what a strict decoder finds wrong with the file, or None.
    """

    pixels: ImageArray
    damage: str | None


def decode(file: bytes, limits: Limits) -> Decoded:
    """Decode a PNG, JPEG, WebP, BMP or TIFF file.

    Raises PictureRefused: too many bytes, pixels or parts, a known format that is not read, several
    pictures, or nothing that can be decoded.
    """
    module = module_of(file, limits.max_bytes)
    with _decoding():
        picture: Container = module.take_apart(file)
        _check(picture, limits)
        image, doubt = _render(picture)
        damage: str | None = picture.damage or module.find_damage(picture) or doubt
        if picture.orientation in _TURNS:
            image = image.transpose(Image.Transpose(_TURNS[picture.orientation]))
        try:
            image = to_srgb(image, picture.profile)
        except ProfileError:
            image, damage = to_srgb(image, None), damage or "the profile is damaged"
        return Decoded(np.array(image), damage)


def module_of(file: bytes, max_bytes: int) -> ModuleType:
    """What takes a file apart, by its first bytes.

    Raises PictureRefused: too many bytes, or none.
    """
    if not file:
        raise PictureRefused("the image is empty; send a file")
    if len(file) > max_bytes:
        raise PictureRefused(
            f"the image has more than {max_bytes} bytes; send a smaller or more compressed one",
            "too_many_bytes",
        )
    module = next((module for _, begins, module in FORMATS if begins(file)), None)
    if module is None:
        raise _unidentified(file)
    return module


def _check(picture: Container, limits: Limits) -> None:
    """Raise PictureRefused unless the picture may be decoded, by what its header says."""
    width, height = picture.width, picture.height
    if width * height > limits.max_pixels:
        raise PictureRefused(
            f"the image is {width}x{height}: more than {limits.max_pixels} pixels; scale it down "
            "or crop it",
            "too_many_pixels",
        )
    if width < 1 or height < 1:
        raise PictureRefused("the image has no pixels; send one of at least 1x1")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise PictureRefused(
            f"the image is {width}x{height}: one side is more than {MAX_ASPECT_RATIO} times the "
            "other; crop it",
            "aspect_ratio",
        )
    if picture.pictures > 1:
        raise PictureRefused("the file holds several pictures; send one", "several_pictures")
    most = max(jpeg.USUAL_SCANS, MOST_SCANNED * limits.max_pixels // (width * height))
    if picture.scans > most:
        raise too_many_parts("scans", most)


def _render(picture: Container) -> tuple[Image.Image, str | None]:
    """The stored picture in one of Pillow's 8-bit modes, transparency included; and why its
    samples' range is in doubt, if it is.
    """
    image = _open(picture)
    if image.mode in _MODES_16BIT or (picture.depth > 8 and ";16" in _layout(image)):
        return _wide(picture, image)
    if image.mode not in _MODES_8BIT:
        raise PictureRefused(
            f"pixels of mode {image.mode} have no fixed range; convert to 8 or 16 bits"
        )
    image.load()
    if picture.key is None:
        return image, _beyond_palette(picture, image)
    scale = 255 // (2**picture.depth - 1)  # of 1, 2 and 4 bits
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    return _keyed(values, values, tuple(scale * value for value in picture.key)), None


def _wide(picture: Container, image: ImageFile.ImageFile) -> tuple[Image.Image, str | None]:
    """A picture of 12 or 16 bits, its samples scaled from their range; and what `_doubt` says."""
    samples, mode = _samples(picture, image)
    white = picture.white or 2**picture.depth - 1
    alpha = mode in ("LA", "RGBA", "RGBa")
    colours = samples[..., :-1] if alpha else samples
    doubt = _doubt(picture, int(colours.max()), white)
    values = to_8_bit(samples, white)
    if alpha and white != 65535:
        values[..., -1] = to_8_bit(samples[..., -1], 65535)
    if picture.inverted:
        values = 255 - values
    if picture.key is not None:
        return _keyed(values, samples, picture.key), doubt
    made = Image.fromarray(values.squeeze(-1) if mode == "L" else values, mode)
    return (made.convert("RGBA") if mode == "RGBa" else made), doubt


def _beyond_palette(picture: Container, image: Image.Image) -> str | None:
    """Why pixels have no colour of the file's, if some do not."""
    if picture.colours is None or image.mode != "P":
        return None
    largest = int(np.asarray(image).max())
    if largest < picture.colours:
        return None
    return f"a pixel has colour {largest} of a palette of {picture.colours}"


def _doubt(picture: Container, largest: int, white: int) -> str | None:
    """Why samples may stand for another range than the file's, if they may.

    Cameras write 10, 12 or 14 bits into 16 without scaling them. A file that says how many bits
    were scaled (PNG, section 11.3.2.4) is believed unless its samples fit into those.
    """
    if largest > white:
        return f"a sample is {largest}, and the file says that its largest is {white}"
    bits = AMBIGUOUS_BITS if picture.told is None else picture.told
    if white != 65535 or bits == 16 or not 0 < largest < 2**bits:
        return None
    return (
        f"no 16-bit sample is above {largest}: dark, or of fewer bits; scale them, or say the "
        "range by PNG's sBIT or TIFF's MaxSampleValue"
    )


def _samples(picture: Container, image: ImageFile.ImageFile) -> tuple[NDArray[np.uint16], str]:
    """All bits of the samples, (height, width, channels), and the 8-bit mode they stand for.

    Of several channels Pillow keeps the high bytes. Told the other order of bytes it keeps the low.
    """
    if image.mode in _MODES_16BIT:
        grey: NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
        return grey[..., None], "L"
    if _layout(image).startswith("LA;16"):
        with Image.open(io.BytesIO(png.as_bytes(picture.essence)), formats=("PNG",)) as opened:
            pairs = np.asarray(opened).view(">u2")
        return pairs.astype(np.uint16), "LA"
    samples: NDArray[np.uint16] | None = None
    premultiplied = _layout(image).startswith("RGBa")
    for swap in ({}, {"B": "L", "L": "B", "N": "B"}):
        tiles, half = image.tile, _open(picture)
        half.tile = [_relayed(tile, swap) for tile in tiles]
        half.load()
        if samples is None:
            samples = np.asarray(half).astype(np.uint16)
            samples <<= 8
        else:
            samples |= np.asarray(half)
    assert samples is not None
    return samples, "RGBa" if premultiplied else image.mode


def _relayed(tile: ImageFile._Tile, swap: dict[str, str]) -> ImageFile._Tile:
    """A tile read in another order of bytes."""
    layout, *rest = tile.args if isinstance(tile.args, tuple) else (str(tile.args),)
    layout = layout[:-1].replace("RGBa", "RGBA") + swap.get(layout[-1], layout[-1])
    return tile._replace(args=(layout, *rest) if rest else layout)


def _keyed(values: ImageArray, samples: NDArray[np.integer], key: tuple[int, ...]) -> Image.Image:
    """8-bit values, transparent where the samples have the one transparent colour."""
    height, width = values.shape[:2]
    stored = samples.reshape(height, width, -1)
    opaque = (stored != np.array(key)).any(axis=-1)
    colours = values.reshape(height, width, -1)
    alpha = np.where(opaque, 255, 0).astype(np.uint8)[..., None]
    return Image.fromarray(np.concatenate([colours, alpha], axis=-1))


def _open(picture: Container) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(picture.essence), formats=(picture.format,))
    except UnidentifiedImageError as error:
        raise PictureRefused(
            "the image's samples are laid out in a way that is not read, or its header is damaged; "
            "convert it to 8 or 16 bits of grey or RGB"
        ) from error


def _layout(image: ImageFile.ImageFile) -> str:
    """How the file's samples lie, in Pillow's words."""
    args = image.tile[0].args if image.tile else ""
    first = args if isinstance(args, str) else args[0] if args else ""
    return first if isinstance(first, str) else ""


def _unidentified(file: bytes) -> PictureRefused:
    name = next((name for magic, name in _REFUSED.items() if file.startswith(magic)), None)
    if file[4:8] == b"ftyp":
        name = "HEIF, AVIF or video"
    if name is not None:
        return PictureRefused(f"{name} files are not read; {_ACCEPTED}", "unsupported_image")
    return PictureRefused(f"these bytes are no image that can be read; {_ACCEPTED}")


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what a decoder raises into a refusal."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise PictureRefused(
            "the image has far too many pixels; scale it down or crop it", "too_many_pixels"
        ) from error
    except _DECODER_ERRORS as error:
        raise damaged() from error


# Our own limit stands above; Pillow's warning at half of its hard limit would only be noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
