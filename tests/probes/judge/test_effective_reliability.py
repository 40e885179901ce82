from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probes.judge.effective_reliability import COSTS, reliability_table, reliability_thresholds
from probes.judge.side_by_side import Judged
from probes.types import Interval


def judged(scores: dict[str, list[float]], rows: list[bool]) -> Judged:
    return Judged(np.array(rows), {name: np.array(one) for name, one in scores.items()}, {}, 0)


def store(wrong: list[bool]) -> Any:
    return SimpleNamespace(wrong=np.array(wrong), groups=np.arange(len(wrong)).astype(str))


CALIBRATE = [True, True, True, True, False, False, False, False]
TEST = [not one for one in CALIBRATE]
WRONG = [False, False, True, True, False, True, False, True]


def test_thresholds_come_from_one_split_and_are_judged_on_the_other() -> None:
    data = store(WRONG)
    chosen = reliability_thresholds(data, judged({"risk": [0.1, 0.2, 0.3, 0.4]}, CALIBRATE))
    assert chosen == {"risk": dict.fromkeys(COSTS, 0.2)}
    scores = {"risk": [0.1, 0.2, 0.3, 0.4], "new": [0.0] * 4}
    table = reliability_table(data, judged(scores, TEST), chosen, resamples=50)
    assert set(table) == {"risk"}
    # Two of four accepted, one of them wrong.
    for cost in COSTS:
        found = table["risk"][f"phi_{cost}"]
        assert isinstance(found, Interval)
        assert found.estimate == pytest.approx((1 - cost) / 4)
        assert found.lower <= found.estimate <= found.upper


def test_a_signal_that_earns_nothing_accepts_nothing() -> None:
    data = store([True] * 4 + [False] * 4)
    chosen = reliability_thresholds(data, judged({"risk": [0.1, 0.2, 0.3, 0.4]}, CALIBRATE))
    assert chosen == {"risk": dict.fromkeys(COSTS)}
    table = reliability_table(data, judged({"risk": [0.0] * 4}, TEST), chosen, resamples=50)
    assert table["risk"]["phi_1"] == Interval(0.0, 0.0, 0.0)


def test_no_calibration_answers() -> None:
    assert reliability_thresholds(store(WRONG), judged({"risk": []}, [False] * 8)) == {}
