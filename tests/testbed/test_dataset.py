"""Datasets on disk: deterministic, and readable by the science."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probes.data.datasets import load_dataset
from probes.data.images import load_image
from testbed.dataset import write_dataset
from testbed.drawing import render
from testbed.scenes import DOMAINS, Domain, make_scene


@pytest.mark.parametrize("domain", DOMAINS)
def test_written_twice_is_the_same_and_loads(tmp_path: Path, domain: Domain) -> None:
    for name in ("one", "two"):
        write_dataset(tmp_path / name, domain, range(6), 3)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    examples, problems = load_dataset(tmp_path / "one" / "questions.jsonl")
    assert not problems
    assert len(examples) == 18
    pixels = load_image(examples[0].image_path)
    assert np.array_equal(pixels, render(make_scene(int(examples[0].image_path.stem), domain)))
