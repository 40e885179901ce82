"""The format between the service and a decoding process: bytes with a head, nothing pickled.

To the decoder go the file's length and the file. Back come a head and, for an image, its SHA-256,
its features, its file's damage and its pixels; for a refusal, the error as JSON.
"""

from __future__ import annotations

import json
import struct
from hashlib import sha256

import numpy as np

from probes.pictures.decoder import Decoded
from probes.signals.image_features import IMAGE_FEATURES, image_features
from probes.types import FloatArray, ImageArray
from service.errors import Invalid, ServiceError, TooLarge, UnsupportedType
from service.images.picture import Picture

LENGTH = struct.Struct("<Q")
"""Before a file: its bytes."""
HEAD = struct.Struct("<?III")
"""Before a reply: whether it is an image; height, width; bytes of what comes before the pixels."""
DIGEST_BYTES = 32
FACTS_BYTES = DIGEST_BYTES + 8 * len(IMAGE_FEATURES)
MOST_DAMAGE = 256
"""Bytes of what is wrong with a file, in words."""
MOST_WORDS = 4096
ERRORS = {kind.__name__: kind for kind in (Invalid, TooLarge, UnsupportedType)}


class BrokenReply(Exception):
    """The decoder's reply is not in the format."""


def facts_of(file: bytes, decoded: Decoded) -> bytes:
    """Pack the file's SHA-256, the image's features, and the file's damage."""
    damage = (decoded.damage or "").encode()[:MOST_DAMAGE]
    return sha256(file).digest() + image_features(decoded.pixels).tobytes() + damage


def words_of(error: ServiceError) -> bytes:
    """Pack a refusal."""
    told = [type(error).__name__, error.detail, error.field, error.kind]
    return json.dumps(told).encode()


def check_head(image: bool, height: int, width: int, size: int, max_pixels: int) -> None:
    """Raise BrokenReply unless a reply may have this head: it bounds the room made for the rest."""
    fits = FACTS_BYTES <= size <= FACTS_BYTES + MOST_DAMAGE and 0 < height * width <= max_pixels
    if not (fits if image else size <= MOST_WORDS and height == width == 0):
        raise BrokenReply(f"a head of {image}, {height}x{width}, {size} bytes")


def read_picture(facts: bytes, pixels: ImageArray, file: bytes) -> Picture:
    """Unpack the reply with an image. Raises BrokenReply."""
    features: FloatArray = np.frombuffer(
        facts, dtype=np.float64, count=len(IMAGE_FEATURES), offset=DIGEST_BYTES
    )
    if not np.isfinite(features).all():
        raise BrokenReply("features that are not finite")
    damage = facts[FACTS_BYTES:].decode(errors="replace") or None
    return Picture(pixels, file, facts[:DIGEST_BYTES].hex(), features, damage)


def read_refusal(words: bytes) -> ServiceError:
    """Unpack the reply with a refusal. Raises BrokenReply."""
    try:
        name, detail, field, kind = json.loads(words)
        return ERRORS[name](str(detail), field=field, kind=str(kind))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BrokenReply("a refusal that cannot be read") from error
