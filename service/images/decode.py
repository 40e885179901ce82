"""Decodes an image's file, and turns the decoder's refusals into the caller's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import Decoded, decode, module_of
from service.errors import Invalid, ServiceError, TooLarge, UnsupportedType

_ERRORS: dict[str, type[ServiceError]] = {
    "too_many_bytes": TooLarge,
    "too_many_pixels": TooLarge,
    "unsupported_image": UnsupportedType,
}


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
    with _told():
        return decode(data, Limits(max_bytes, max_pixels))


def check_beginning(data: bytes, max_bytes: int) -> None:
    """Refuse a file by its first bytes and its size, before anything else is done with it.

    Raises as :func:`decode_image`.
    """
    with _told():
        module_of(data, max_bytes)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PictureRefused as refused:
        error = _ERRORS.get(refused.kind, Invalid)
        raise error(refused.detail, field="image", kind=refused.kind) from refused
