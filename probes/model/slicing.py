"""Slices of the traffic (camera, line, kind of question) and which of them are tested alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Record

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

    def names(self, records: Sequence[Record]) -> NDArray[np.str_]:
        """Slice of every answer, (n,)."""
        return np.array([getattr(record, self.by) for record in records], dtype=np.str_)
