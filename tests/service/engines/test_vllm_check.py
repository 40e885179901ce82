"""The start-up check of attention cannot pass without having read anything."""

from __future__ import annotations

import math

from service.engines.vllm import worst_deviation


def test_the_worst_layer_counts() -> None:
    assert worst_deviation({"1": 0.001, "3": 0.2}, (1, 3)) == 0.2


def test_a_layer_that_was_not_reached_is_far_off() -> None:
    assert worst_deviation({"1": 0.001}, (1, 3)) == math.inf
    assert worst_deviation({}, (2,)) == math.inf


def test_no_layer_is_none_too_far() -> None:
    assert worst_deviation({}, ()) == 0.0
