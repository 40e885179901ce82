"""An image from outside: its bytes, and the decoder's refusals as the caller's errors."""

from __future__ import annotations

import binascii

from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import Decoded, decode
from service.errors import Invalid, ServiceError, TooLarge, UnsupportedType

_SLICE = 1 << 18
"""Of a text in base64."""
_BLANKS = b" \t\n\r\v\f"
_ERRORS: dict[str, type[ServiceError]] = {
    "too_many_bytes": TooLarge,
    "too_many_pixels": TooLarge,
    "unsupported_image": UnsupportedType,
}


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
        data = _decoded(text)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Invalid(
            "'image' is not valid base64; encode the file's bytes as standard base64",
            field="image",
            kind="invalid_base64",
        ) from error
    _check_bytes(len(data), max_bytes)
    return data


def _decoded(text: str) -> bytes:
    """Slice by slice: other threads get their turn, and no second copy is made."""
    data, rest, padded = bytearray(), b"", False
    for begin in range(0, len(text), _SLICE):
        part = rest + text[begin : begin + _SLICE].encode("ascii").translate(None, _BLANKS)
        whole = len(part) - len(part) % 4
        rest = part[whole:]
        if padded and part:
            raise binascii.Error("padding before the end")
        data += binascii.a2b_base64(part[:whole], strict_mode=True)
        padded = part[:whole].endswith(b"=")
    if rest:
        raise binascii.Error("cut short")
    return bytes(data)


def _check_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLarge(
            f"the image has more than {max_bytes} bytes; send a smaller or more compressed one",
            field="image",
            kind="too_many_bytes",
        )


def decode_image(data: bytes, max_bytes: int, max_pixels: int) -> Decoded:
    """Decode one image, see :func:`probes.pictures.decoder.decode`.

    Args:
        data: a PNG, JPEG, WebP, BMP or TIFF file.
        max_bytes: most bytes that the file may have.
        max_pixels: most pixels that its header may announce.

    Raises:
        TooLarge: bytes or pixels. UnsupportedType: a known format that is not read.
        Invalid: everything else that is not decoded.
    """
    try:
        return decode(data, Limits(max_bytes, max_pixels))
    except PictureRefused as refused:
        error = _ERRORS.get(refused.kind, Invalid)
        raise error(refused.detail, field="image", kind=refused.kind) from refused
