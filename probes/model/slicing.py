"""Slices of the traffic (camera, line, kind of question) and which of them are tested alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SliceField = Literal["slice", "kind"]


@dataclass(frozen=True, slots=True)
class Slicing:
    """Certificates per slice.

    Args:
        by: the records' field that names the slice.
        key: the metadata key by which a request names it.
    """

    by: SliceField
    key: str
