"""Samples of any depth and colour space -> 8-bit sRGB, opaque."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from probes.types import ImageArray

SRGB_TOLERANCE = 2
"""Of 255. A profile that moves no colour by more is sRGB, and its picture is left as it is."""
PROFILES_KEPT = 8
ROWS = 256
"""Scaled at once."""
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_INTENT = ImageCms.Intent.PERCEPTUAL
_WHITE = (255, 255, 255, 255)


class ProfileError(Exception):
    """A colour profile that cannot be read."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to opaque 8-bit sRGB: colours by the profile, then transparency on white.

    A profile of another colour space than the picture's is ignored, but for an RGB profile of a
    grey picture. Raises ProfileError.
    """
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if profile is not None:
        image = _apply(image, profile)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is None:
        return image
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")


def to_8_bit(samples: NDArray[np.uint16], white: int) -> ImageArray:
    """Scale samples from their full range, rounded; above ``white`` they are white."""
    made = np.empty(samples.shape, dtype=np.uint8)
    for at in range(0, len(samples), ROWS):  # some at a time: the work takes four times their room
        wide = np.minimum(samples[at : at + ROWS], white).astype(np.uint32)
        made[at : at + ROWS] = (wide * 510 + white) // (2 * white)
    return made


def _apply(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert by a profile; as it was where the profile is sRGB or of another colour space."""
    space, to_rgb = _transform(profile)
    plain = image if image.mode in ("L", "CMYK", "RGB") else image.convert("RGB")
    if image.mode in ("1", "LA", "La"):
        plain = image.convert("L")
    if space == "RGB" and plain.mode == "L":
        plain = plain.convert("RGB")
    if to_rgb is None or space != plain.mode:
        return image
    try:
        converted = ImageCms.applyTransform(plain, to_rgb)
    except ImageCms.PyCMSError as error:
        raise ProfileError from error
    assert converted is not None
    return converted


@lru_cache(maxsize=PROFILES_KEPT)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """A profile's colour space, and its way to sRGB; None where there is none to go."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _SPACES.get(opened.profile.xcolor_space, "")
        if not space:
            return "", None
        to_rgb = ImageCms.buildTransform(
            opened, ImageCms.createProfile("sRGB"), space, "RGB", _INTENT
        )
        if space == "RGB" and _is_srgb(to_rgb):
            return space, None
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ProfileError from error
    return space, to_rgb


def _is_srgb(to_rgb: ImageCms.ImageCmsTransform) -> bool:
    """Whether it moves none of 17 x 17 x 17 colours."""
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    moved = ImageCms.applyTransform(Image.fromarray(colours), to_rgb)
    return bool(np.abs(np.asarray(moved, dtype=int) - colours).max() <= SRGB_TOLERANCE)
