from __future__ import annotations

import numpy as np
import pytest

from probes.stats.paired import compare, mean_interval
from probes.types import Interval, Missing


def test_accuracy_lost_by_hand() -> None:
    # 8 broken, 1 mended, 3 stay: P(at least 8 of 9 or at most 1) = 2 (1 + 9) / 2**9.
    before = np.array([False] * 8 + [True] + [False, True, True])
    after = np.array([True] * 8 + [False] + [False, True, True])
    lost = compare(before, after, np.arange(12), 200)
    assert (lost.answers, lost.broken, lost.mended) == (12, 8, 1)
    assert lost.before == pytest.approx(9 / 12)
    assert lost.after == pytest.approx(2 / 12)
    assert lost.p_value == pytest.approx(20 / 512)
    assert isinstance(lost.drop, Interval)
    assert lost.drop.estimate == pytest.approx(7 / 12)
    assert 0 < lost.drop.lower < 7 / 12 < lost.drop.upper < 1


def test_nothing_changed() -> None:
    wrong = np.array([True, False, True])
    lost = compare(wrong, wrong, np.arange(3), 50)
    assert (lost.p_value, lost.broken, lost.mended) == (1.0, 0, 0)
    assert lost.drop == Interval(0.0, 0.0, 0.0)


def test_questions_of_an_image_count_together() -> None:
    values = np.repeat(np.random.default_rng(0).integers(0, 2, 40).astype(float), 10)
    alone = mean_interval(values, np.arange(400), 400)
    together = mean_interval(values, np.repeat(np.arange(40), 10), 400)
    assert not isinstance(alone, Missing)
    assert not isinstance(together, Missing)
    assert together.upper - together.lower > 2 * (alone.upper - alone.lower)
