"""Scenes: same seed, same bytes; the truth follows from the contents."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testbed import scenes as sc
from testbed.drawing import render
from testbed.palette import SIZE

ROOT = Path(__file__).resolve().parents[2]
SCENES = [sc.make_scene(seed, domain) for domain in sc.DOMAINS for seed in range(500)]


def digest() -> str:
    """Hash of contents and pixels of a few scenes."""
    seen = hashlib.sha256()
    for domain in sc.DOMAINS:
        for seed in range(12):
            scene = sc.make_scene(seed, domain)
            seen.update(repr(scene).encode())
            seen.update(render(scene).tobytes())
    return seen.hexdigest()


def test_same_bytes_in_two_calls_and_two_processes() -> None:
    code = f"import runpy; print(runpy.run_path({__file__!r})['digest']())"
    other = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert digest() == digest() == other.stdout.strip()


@pytest.mark.parametrize("domain", sc.DOMAINS)
def test_image_shape_and_dtype(domain: sc.Domain) -> None:
    image = render(sc.make_scene(3, domain))
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert image.std() > 5


def test_contents_obey_the_rules() -> None:
    for scene in SCENES:
        assert 3 <= len(scene.parts) <= 8
        assert len(scene.defects) <= 2
        held = [(p.row, p.col) for p in scene.parts]
        held += [(d.row, d.col) for d in scene.defects if d.kind != "tilted label"]
        assert len(set(held)) == len(held)
        assert all(0 <= v < sc.GRID for cell in held for v in cell)
        tilted = {(p.row, p.col) for p in scene.parts if p.tilted}
        assert tilted == {(d.row, d.col) for d in scene.defects if d.kind == "tilted label"}
        for part in scene.parts:
            allowed = {"hole": (None,), "screw": sc.SCREW_COLORS}.get(part.type, sc.COLORS)
            assert part.color in allowed
        assert max(sum(p.type == t for p in scene.parts) for t in sc.TYPES) <= 6


def test_cell_labels_agree_with_contents() -> None:
    assert len(set(sc.CELL_CLASSES)) == len(sc.CELL_CLASSES)
    seen: set[int] = set()
    for scene in SCENES:
        labels = sc.cell_labels(scene)
        assert labels.shape == (sc.GRID, sc.GRID)
        assert labels.dtype == np.int64
        seen |= set(labels.ravel().tolist())
        assert int((labels > 0).sum()) == len(sc.cells_of(scene))
        for part in scene.parts:
            name = sc.CELL_CLASSES[labels[part.row, part.col]]
            assert name == ("tilted " if part.tilted else "") + sc.noun(part)
    assert seen == set(range(len(sc.CELL_CLASSES)))


def test_captions_are_short_and_name_every_cell() -> None:
    for scene in SCENES:
        text = sc.caption(scene)
        assert len(text.split()) <= 60
        assert text.count(" at ") == len(sc.cells_of(scene))


def test_domains_differ_in_contents_and_in_difficulty() -> None:
    catalog, line = sc.make_scene(1, "catalog"), sc.make_scene(1, "line")
    assert (catalog.parts, catalog.defects) != (line.parts, line.defects)
    assert sc.severity(catalog) == 0
    levels = [sc.severity(s) for s in SCENES if s.domain == "line"]
    assert max(levels) <= sc.WORST_SEVERITY
    assert float(np.mean(levels)) == pytest.approx(sc.WORST_SEVERITY / 3, rel=0.1)


def test_more_severity_moves_the_image_further() -> None:
    gap = []
    for level in (0.1, 0.5, 1.0):
        far = [
            np.abs(render(s, level).astype(int) - render(s, 0.0).astype(int)).mean()
            for s in SCENES[500:512]
        ]
        gap.append(float(np.mean(far)))
    assert gap == sorted(gap)
    assert gap[0] < 15 < gap[-1]
