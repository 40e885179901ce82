"""A file taken apart: what the picture is decoded from, and what stands around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from probes.errors import DataError

Kind = Literal[
    "undecodable_image",
    "unsupported_image",
    "several_pictures",
    "too_many_parts",
    "too_many_pixels",
    "too_many_bytes",
    "aspect_ratio",
]
MOST_PARTS = 4096
"""Chunks, segments or entries that a file may have: walking them must cost little."""
MOST_PROFILE_BYTES = 2**22
"""Of a colour profile. The largest in use, of printing presses, have about two million."""


class PictureRefused(DataError):
    """A file that is not decoded.

    Args:
        detail: what is wrong and what to do about it.
        kind: which refusal, a snake_case word.
    """

    def __init__(self, detail: str, kind: Kind = "undecodable_image") -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost.

    Args:
        max_bytes: of the file. max_pixels: that its header may announce.
    """

    max_bytes: int = 12_000_000
    max_pixels: int = 25_000_000


@dataclass(frozen=True, slots=True)
class Container:
    """A file taken apart.

    Args:
        format: Pillow's name of it.
        width, height: as stored, before the orientation is applied.
        essence: a file of the same format that holds the picture and nothing else.
        pictures: how many the file holds.
        scans: passes over the picture that decoding takes.
        orientation: 1 to 8, as in EXIF.
        profile: ICC colour profile of the samples, if there is one.
        key: PNG's one transparent colour, a sample value per channel, at the file's depth.
        depth: bits of a sample.
        white: the largest sample value, where the file says one of its own (TIFF's MaxSampleValue).
        told: significant bits before scaling to the depth, where the file says
            so (PNG's sBIT; TIFF's MaxSampleValue of all 16 bits).
        colours: entries of the palette that the file has, where that may be too few.
        inverted: 0 is white, and Pillow does not know.
        damage: what was found broken while taking it apart, if anything.
    """

    format: str
    width: int
    height: int
    essence: bytes
    pictures: int = 1
    scans: int = 1
    orientation: int = 1
    profile: bytes | None = None
    key: tuple[int, ...] | None = None
    depth: int = 8
    white: int | None = None
    told: int | None = None
    colours: int | None = None
    inverted: bool = False
    damage: str | None = None


def damaged(why: str = "the image is damaged or cut short; send the whole file") -> PictureRefused:
    """Return the refusal of a file that cannot be decoded."""
    return PictureRefused(why)


def too_many_parts(what: str, most: int) -> PictureRefused:
    """Return the refusal of a file whose structure alone would cost too much."""
    return PictureRefused(
        f"the image has more than {most} {what}; save it again with an image program",
        "too_many_parts",
    )
