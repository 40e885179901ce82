"""16-bit files whose samples use a part of their range: pixels as declared, doubt marked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from probes.pictures.container import Limits
from probes.pictures.decoder import decode
from probes.pictures.png import chunk
from tests.probes.pictures.writers import Samples, png, rounded, samples, tiff

Write = Callable[[Samples], bytes]


def grey(significant: int | None = None, **options: bool) -> Write:
    before = b"" if significant is None else chunk(b"sBIT", bytes([significant]))
    return lambda values: png(values, 0, 16, before=before, **options)


def grey_tiff(**tags: tuple[int, ...]) -> Write:
    return lambda values: tiff(values, 16, 1, **tags)  # type: ignore[arg-type]


def upto(bits: int, channels: int = 1) -> Samples:
    return samples(channels, bits, seed=bits)


def colour(significant: bytes | None = None) -> Write:
    before = b"" if significant is None else chunk(b"sBIT", significant)
    return lambda values: png(values, 2, 16, before=before)


def with_alpha(write: Callable[[Samples], bytes]) -> Write:
    """Alpha that uses the whole range beside a grey that does not."""
    full = samples(1, 16, seed=3)
    return lambda values: write(np.concatenate([values, full], axis=-1))


TABLE: dict[str, tuple[Write, Samples, bool]] = {
    # what is written, with which samples, and whether the range is in doubt
    "png of 12 bits": (grey(), upto(12), True),
    "png of 10 bits": (grey(), upto(10), True),
    "png of 14 bits": (grey(), upto(14), True),
    "png of 15 bits": (grey(), upto(15), False),
    "png of 16 bits": (grey(), upto(16), False),
    "png all black": (grey(), upto(16) * 0, False),
    "png all one": (grey(), upto(16) * 0 + 1, True),
    "png interlaced": (grey(interlaced=True), upto(12), True),
    "png dark, and says so": (grey(16), upto(12), False),
    "png of 12 bits, scaled": (grey(12), upto(12) << 4, False),
    "png of 12 bits, scaled, dark": (grey(12), upto(8) << 4 | 0x1000, False),
    "png that says 12 and is not scaled": (grey(12), upto(12), True),
    "png that says 10 and is not scaled": (grey(10), upto(10), True),
    "png that says 0": (grey(0), upto(12), True),
    "png that says 17": (grey(17), upto(12), True),
    "png rgb": (colour(), upto(12, 3), True),
    "png rgb that says 16": (colour(bytes([16, 16, 16])), upto(12, 3), False),
    "png rgb that says too little": (colour(bytes([16])), upto(12, 3), True),
    "tiff of 12 bits": (grey_tiff(), upto(12), True),
    "tiff, high byte first": (
        lambda values: tiff(values, 16, 1, order=">"), upto(12), True
    ),
    "tiff deflated": (lambda values: tiff(values, 16, 1, compression=8), upto(12), True),
    "tiff dark, and says so": (grey_tiff(white=(65535,)), upto(12), False),
    "tiff rgb": (lambda values: tiff(values, 16, 2), upto(12, 3), True),
    "tiff whose statistics say 3000": (grey_tiff(white=(3000,)), upto(12), True),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_dark_file_is_read_as_it_says(name: str) -> None:
    write, values, doubtful = TABLE[name]
    decoded = decode(write(values), Limits())
    assert np.abs(decoded.pixels.astype(int) - rounded(values, 65535)).max() <= 1
    assert (decoded.damage is not None) == doubtful
    if doubtful:
        assert f"no 16-bit sample is above {values.max()}" in str(decoded.damage)
        assert "sBIT" in str(decoded.damage)


@pytest.mark.parametrize("significant", [None, bytes([16, 1])])
def test_alphas_range_says_nothing_of_the_colours(significant: bytes | None) -> None:
    before = b"" if significant is None else chunk(b"sBIT", significant)
    write = with_alpha(lambda values: png(values, 4, 16, before=before))
    assert (decode(write(upto(12)), Limits()).damage is None) == (significant is not None)


def test_a_range_of_fewer_bits_is_scaled_from() -> None:
    values = upto(12)
    decoded = decode(tiff(values, 16, 1, white=(4095,)), Limits())
    assert decoded.damage is None
    assert np.array_equal(decoded.pixels[..., :1], rounded(values, 4095))
