"""Bytes from outside -> one RGB image, with every limit checked before a pixel is decoded.

Rules: 16-bit grey is scaled from its full range (65535 -> 255); CMYK is converted without its
colour profile; transparency is flattened on white; the camera's EXIF orientation is applied; the
first picture of a JPEG with several (MPO, as phones write) is taken; other files with several are
refused.
"""

from __future__ import annotations

import binascii
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from probes.types import ImageArray
from service.errors import Invalid, TooLarge, UnsupportedType

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_SLICE = 1 << 18
"""Of base64, a multiple of four characters."""
MAX_ASPECT_RATIO = 100
"""Longer side over shorter: beyond, processors that scale by the shorter side exhaust memory."""

_REFUSED = {
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"8BPS": "Photoshop",
    b"\x00\x00\x01\x00": "ICO",
}
_MODES_8BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_MODES_16BIT = {"I;16", "I;16B", "I;16L"}
# What Pillow's decoders raise on damaged files, beside their own errors.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, ArithmeticError,
                   LookupError, TypeError, Warning)  # fmt: skip


def decode_base64(text: str, max_bytes: int) -> bytes:
    """The bytes of a data URI or of plain base64 (blanks and line ends are allowed).

    Raises:
        Invalid: a URL, or not base64. TooLarge: more than ``max_bytes``.
    """
    if text[:8].lower().startswith(("http:", "https:", "file:", "ftp:")):
        raise Invalid(
            "image URLs are off; send the image itself as base64 or as a multipart file",
            field="image",
            kind="image_url_off",
        )
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Invalid(
                "the data URI is not base64; write data:image/png;base64,<base64>",
                field="image",
                kind="invalid_base64",
            )
    try:
        data = b"".join(_unblanked(text.encode("ascii")))
        _check_bytes((len(data) - data[-2:].count(b"=")) * 3 // 4, max_bytes)
        if b"=" in data[:-2]:
            raise binascii.Error("padding before the end")
        parts = (data[begin : begin + _SLICE] for begin in range(0, len(data), _SLICE))
        return b"".join(binascii.a2b_base64(part, strict_mode=True) for part in parts)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Invalid(
            "'image' is not valid base64; encode the file's bytes as standard base64",
            field="image",
            kind="invalid_base64",
        ) from error


def _unblanked(text: bytes) -> Iterator[bytes]:
    """The text without blanks and line ends, slice by slice, so that other threads get a turn."""
    for begin in range(0, len(text), _SLICE):
        yield text[begin : begin + _SLICE].translate(None, b" \t\n\r\v\f")


def decode_image(data: bytes, max_bytes: int, max_pixels: int) -> ImageArray:
    """Decode one image.

    Args:
        data: a PNG, JPEG, WebP, BMP or TIFF file.
        max_bytes: most bytes that the file may have.
        max_pixels: most pixels that its header may announce.

    Returns:
        RGB, uint8, shape (height, width, 3), upright, opaque.

    Raises:
        TooLarge: bytes or pixels. UnsupportedType: a known format that is not read.
        Invalid: empty, several pictures, or cannot be decoded.
    """
    if not data:
        raise Invalid("the image is empty; send a file", field="image", kind="undecodable_image")
    _check_bytes(len(data), max_bytes)
    with _decoding():
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise _unidentified(data) from error
        _check_header(image, max_pixels)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(_to_rgb(image))


def _check_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLarge(
            f"the image has more than {max_bytes} bytes; send a smaller or more compressed one",
            field="image",
            kind="too_many_bytes",
        )


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width}x{height}", max_pixels)
    if width < 1 or height < 1:
        raise Invalid(
            "the image has no pixels; send one of at least 1x1",
            field="image",
            kind="undecodable_image",
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise Invalid(
            f"the image is {width}x{height}: one side is more than {MAX_ASPECT_RATIO} times the "
            "other; crop it",
            field="image",
            kind="aspect_ratio",
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise Invalid(
            f"the file holds {frames} pictures; send one",
            field="image",
            kind="several_pictures",
        )
    if image.mode not in _MODES_8BIT | _MODES_16BIT:
        raise Invalid(
            f"pixels of mode {image.mode} have no fixed range; convert to 8 or 16 bits",
            field="image",
            kind="undecodable_image",
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _MODES_16BIT:
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _unidentified(data: bytes) -> Invalid | UnsupportedType:
    accepted = "send PNG, JPEG, WebP, BMP or TIFF"
    name = next((name for magic, name in _REFUSED.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = "HEIF or video"
    if name is not None:
        return UnsupportedType(
            f"{name} files are not read; {accepted}", field="image", kind="unsupported_image"
        )
    return Invalid(
        f"these bytes are no image that can be read; {accepted}",
        field="image",
        kind="undecodable_image",
    )


def _too_many_pixels(size: str, max_pixels: int) -> TooLarge:
    return TooLarge(
        f"the image is {size}: more than {max_pixels} pixels; scale it down or crop it",
        field="image",
        kind="too_many_pixels",
    )


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what a decoder raises into the caller's error."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise TooLarge(
            "the image has far too many pixels; scale it down or crop it",
            field="image",
            kind="too_many_pixels",
        ) from error
    except _DECODER_ERRORS as error:
        raise Invalid(
            "the image is damaged or cut short; send the whole file",
            field="image",
            kind="undecodable_image",
        ) from error


# Our own limit stands above; Pillow's warning at half of its hard limit would only be noise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
