"""Slices of the traffic, such as cameras, lines or kinds of question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SliceField = Literal["slice", "kind"]


@dataclass(frozen=True, slots=True)
class Slicing:
    """How certificates go by slice.

    Args:
        by: the records' field that names the slice.
        key: the metadata key by which a request names it.
    """

    by: SliceField
    key: str
