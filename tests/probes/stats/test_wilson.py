from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from probes.stats.wilson import wilson_share
from probes.types import Interval, Missing


def share(hits: np.ndarray, groups: np.ndarray) -> Interval:
    found = wilson_share(hits, groups)
    assert isinstance(found, Interval)
    return found


@pytest.mark.parametrize(("wrong", "count"), [(0, 12), (3, 40), (40, 40), (1, 1)])
def test_one_answer_per_image_gives_wilsons_interval(wrong: int, count: int) -> None:
    found = share(np.arange(count) < wrong, np.arange(count))
    expected = binomtest(wrong, count).proportion_ci(method="wilson")
    assert found.estimate == wrong / count
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= found.lower <= found.estimate <= found.upper <= 1.0


def test_answers_of_an_image_count_as_if_alike() -> None:
    once = share(np.arange(30) < 4, np.arange(30))
    thrice = share(np.repeat(np.arange(30) < 4, 3), np.repeat(np.arange(30), 3))
    assert (thrice.lower, thrice.upper) == pytest.approx((once.lower, once.upper))
    # One image with most of the answers is worth little more than one.
    uneven = share(np.zeros(100, dtype=bool), np.array([0] * 91 + list(range(1, 10))))
    assert uneven.upper > 0.7


def test_no_answers_have_no_share() -> None:
    assert wilson_share(np.zeros(0, dtype=bool), np.zeros(0)) == Missing("no_answers")


def test_it_covers_the_truth_when_answers_of_an_image_are_alike() -> None:
    """500 runs of 60 images with one to five answers; a share of 7 %, where errors come by image.

    Binomial noise of 500 runs at 95 % is one point; the bound leaves three of them.
    """
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        groups = np.repeat(np.arange(60), rng.integers(1, 6, size=60))
        found = share((rng.random(60) < 0.07)[groups], groups)
        covered += found.lower <= 0.07 <= found.upper
    assert covered >= 0.92 * 500
