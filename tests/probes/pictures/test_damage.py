"""What a strict decoder reports is marked, and nothing else; random damage as it is published."""

from __future__ import annotations

import pytest

from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import decode
from tests.probes.pictures.damaged import WHOLE, damaged, lost, outcomes

SEEN = {"PNG", "TIFF, deflate"}
"""Formats whose every byte is under a checksum, or nearly."""


@pytest.mark.parametrize("name", damaged())
def test_damage_that_shows_a_picture_is_marked(name: str) -> None:
    decoded = decode(damaged()[name], Limits())
    assert decoded.damage
    assert decoded.pixels.size


@pytest.mark.parametrize("name", lost())
def test_damage_that_shows_nothing_is_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PictureRefused) as refused:
        decode(lost()[name], Limits())
    assert refused.value.kind == "undecodable_image"
    capfd.readouterr()  # libtiff's own words


@pytest.mark.parametrize("name", WHOLE)
def test_random_damage(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for kind, told in outcomes(name, 25):
        if kind == "cut" or name in SEEN:
            assert told["unseen"] == 0
    capfd.readouterr()  # libtiff's own words


@pytest.mark.long
@pytest.mark.parametrize("name", WHOLE)
def test_random_damage_at_length(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The figures of docs/images.md."""
    rows = []
    for kind, told in outcomes(name, 1000, seed=1):
        if kind == "cut" or name in SEEN:
            assert told["unseen"] == 0
        rows.append(f"{name}, {kind}: {dict(sorted(told.items()))}")
    with capfd.disabled():
        print(*rows, sep="\n")
