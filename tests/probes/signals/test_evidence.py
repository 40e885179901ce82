from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from probes.signals.evidence import (
    answer_row,
    masked_images,
    measure_evidence,
    patches,
    without,
)
from probes.types import AnswerScore, AttentionMaps, Evidence, Generation, Missing, Trace

IMAGE = np.zeros((4, 6, 3), dtype=np.uint8)
IMAGE[:, 3:] = (60, 90, 120)
ROW = np.array([0.1, 0.4, 0.05, 0.2])
BOXES = np.array([[0, 0, 3, 2], [3, 0, 6, 2], [0, 2, 3, 4], [3, 2, 6, 4]], dtype=float)
TRACE = Trace(logprobs=np.array([-0.5, -0.25]), first_token_entropy=0.1, first_token_margin=1.0)
ANSWER = Generation("yes", (7, 8), "stop", TRACE)


def test_patches_by_hand() -> None:
    assert patches("blank", ROW, IMAGE).tolist() == [True] * 4
    assert patches("top30", ROW, IMAGE).tolist() == [False, True, False, True]
    assert patches("bottom30", ROW, IMAGE).tolist() == [True, False, True, False]


def test_random_patches_are_as_many_and_the_image_s_own() -> None:
    row = np.arange(100.0)
    first = patches("random30", row, IMAGE)
    assert first.sum() == 30
    assert (first == patches("random30", row[::-1], IMAGE)).all()
    assert (first != patches("random30", row, IMAGE + 1)).any()


def test_masked_patches_get_the_mean_colour() -> None:
    masked = without(IMAGE, BOXES[1:2])
    assert masked[:2, 3:].reshape(-1, 3).tolist() == [[30, 45, 60]] * 6
    assert (masked[2:] == IMAGE[2:]).all()
    assert (masked[:, :3] == IMAGE[:, :3]).all()
    assert (IMAGE[:, 3:] == (60, 90, 120)).all(), "the image itself was changed"


def test_boxes_beyond_the_image_are_cut() -> None:
    masked = without(IMAGE, np.array([[-5.0, -5.0, 0.4, 9.0], [5.0, 3.0, 9.0, 9.0]]))
    changed = (masked != IMAGE).any(-1)
    assert changed.sum() == 1
    assert changed[3, 5]


def test_masked_images() -> None:
    images = masked_images(IMAGE, ROW, BOXES)
    assert not isinstance(images, Missing)
    assert list(images) == ["blank", "top30", "random30"]
    assert (images["blank"] == 128).all()
    assert masked_images(IMAGE, ROW, BOXES[:3]) == Missing("grid_mismatch")


def test_drops_by_hand() -> None:
    scores = {
        "blank": AnswerScore(-3.0, False),
        "top30": AnswerScore(-1.75, True),
        "random30": AnswerScore(-0.5, True),
    }
    assert measure_evidence(ANSWER, scores) == Evidence(2.25, True, 1.0, False, -0.25, False)


def test_no_evidence_without_an_answer_or_a_number() -> None:
    scores = {name: AnswerScore(-1.0, True) for name in ("blank", "top30", "random30")}
    empty = Generation("", (), "stop", replace(TRACE, logprobs=np.array([])))
    assert measure_evidence(empty, scores) == Missing("empty_answer")
    scores["top30"] = AnswerScore(-math.inf, False)
    assert measure_evidence(ANSWER, scores) == Missing("not_finite")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (Missing("empty_answer"), Missing("empty_answer")),
        (np.array([[0.1, np.nan]]), Missing("not_finite")),
    ],
)
def test_no_row(rows: np.ndarray | Missing, expected: Missing) -> None:
    maps = AttentionMaps((1,), np.array([[0.1, 0.2]]), rows, (1, 2))
    assert answer_row(replace(TRACE, attention=maps)) == expected


def test_the_row_is_the_mean_over_layers() -> None:
    rows = np.array([[0.1, 0.3], [0.3, 0.1]])
    row = answer_row(replace(TRACE, attention=AttentionMaps((1, 2), rows, rows, (1, 2))))
    assert not isinstance(row, Missing)
    np.testing.assert_allclose(row, [0.2, 0.2])
    assert answer_row(TRACE) == Missing("not_requested")
