"""Each file gives the pixels that its format's document says, and none is taken for damaged."""

from __future__ import annotations

import numpy as np
import pytest

from probes.pictures import Limits, decode
from tests.probes.pictures.cases import cases


@pytest.mark.parametrize("name", cases())
def test_a_file_looks_as_its_format_says(name: str) -> None:
    case = cases()[name]
    decoded = decode(case.file, Limits())
    assert decoded.damage is None
    assert (decoded.pixels.shape, decoded.pixels.dtype) == (case.pixels.shape, np.uint8)
    assert np.abs(decoded.pixels.astype(int) - case.pixels).max() <= case.near
