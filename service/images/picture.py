"""An image: its file, and the pixels that the model sees."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from probes.signals.image_features import image_features
from probes.types import FloatArray, ImageArray
from service.images.decode import decode_image


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image with the file that it came in.

    Args:
        pixels: RGB, uint8, shape (height, width, 3).
        file: the file's bytes.
        sha256: of the file's bytes, hexadecimal: the image's name in the records.
        features: of the pixels, see :func:`probes.signals.image_features.image_features`.
        damage: what a strict decoder finds wrong with the file, or None.
    """

    pixels: ImageArray
    file: bytes
    sha256: str
    features: FloatArray
    damage: str | None = None

    @classmethod
    def decode(cls, file: bytes, max_bytes: int, max_pixels: int) -> Picture:
        """Decode a file. Raises as :func:`service.images.decode.decode_image`."""
        decoded = decode_image(file, max_bytes, max_pixels)
        pixels = decoded.pixels
        digest = sha256(file).hexdigest()
        return cls(pixels, file, digest, image_features(pixels), decoded.damage)
