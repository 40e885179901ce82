from __future__ import annotations

import numpy as np
import pytest

from probes.signals.prompt_side import content_spans, prompt_side
from probes.types import Missing, PromptSideAttention


def test_content_words() -> None:
    question = "What colour is the left gear?"
    assert [question[start:end] for start, end in content_spans(question)] == [
        "colour", "left", "gear",
    ]  # fmt: skip
    assert content_spans("Is it there?") == ()


def test_peak_and_its_mass_by_hand() -> None:
    content = np.zeros(16)
    boundary = np.full(16, 0.01)
    content[5] = 0.31  # row 1, column 1: 0.3 above the boundary
    content[6] = 0.11  # beside it: 0.1
    content[15] = 0.11  # far away: 0.1
    found = prompt_side(content, boundary, (4, 4))
    assert isinstance(found, PromptSideAttention)
    assert found.peak == pytest.approx(0.3)
    assert found.peak_mass == pytest.approx(0.4 / 0.5)


def test_a_peak_in_the_corner() -> None:
    content = np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1])
    found = prompt_side(content, np.zeros(9), (3, 3))
    assert found == PromptSideAttention(0.4, 0.8)


def test_why_there_is_none() -> None:
    flat = np.full(4, 0.1)
    assert prompt_side(flat, flat, (2, 2)) == Missing("no_positive_map")
    assert prompt_side(flat, flat, (2, 3)) == Missing("grid_mismatch")
    assert prompt_side(flat, flat[:3], (2, 2)) == Missing("grid_mismatch")
    assert prompt_side(flat, np.full(4, np.nan), (2, 2)) == Missing("not_finite")
