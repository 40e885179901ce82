"""An image as it came and as it is seen."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from probes.image_features import image_features
from probes.types import FloatArray, ImageArray
from service.images import decode_image


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image with the file that it came in.

    Args:
        pixels: RGB, uint8, shape (height, width, 3).
        file: the file's bytes.
        sha256: of the file's bytes, hexadecimal: the image's name in the records.
        features: of the pixels, see :func:`probes.image_features.image_features`.
    """

    pixels: ImageArray
    file: bytes
    sha256: str
    features: FloatArray

    @classmethod
    def decode(cls, file: bytes, max_bytes: int, max_pixels: int) -> Picture:
        """Decode a file. Raises as :func:`service.images.decode_image`."""
        pixels = decode_image(file, max_bytes, max_pixels)
        return cls(pixels, file, sha256(file).hexdigest(), image_features(pixels))
