"""Each file gives the pixels that its format's document says, and none is taken for damaged."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from probes.pictures.container import Limits
from probes.pictures.decoder import decode
from tests.probes.pictures.cases import cases


@pytest.mark.parametrize("name", cases())
def test_a_file_looks_as_its_format_says(name: str) -> None:
    case = cases()[name]
    decoded = decode(case.file, Limits())
    assert decoded.damage is None
    assert (decoded.pixels.shape, decoded.pixels.dtype) == (case.pixels.shape, np.uint8)
    assert np.abs(decoded.pixels.astype(int) - case.pixels).max() <= case.near


ORDINARY = ("png 2 8", "png 0 8", "png 3 8", "png srgb profile", "jpeg plain", "jpeg 4:2:2",
            "jpeg progressive", "jpeg grey", "jpeg srgb profile", "webp lossy", "bmp 24",
            "tiff II rgb")  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_pictures_are_pillows_to_the_byte(name: str) -> None:
    """So the hashes of images in stores and records stay as they were."""
    file = cases()[name].file
    wanted = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    assert np.array_equal(decode(file, Limits()).pixels, wanted)
