"""The start-up check of attention cannot pass without having read anything."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

from service.engines.vllm.check import agrees, worst_deviation
from service.engines.vllm.engine import VllmEngine


def test_the_worst_layer_counts() -> None:
    assert worst_deviation({"1": 0.001, "3": 0.2}, (1, 3)) == 0.2


def test_a_layer_that_was_not_reached_is_far_off() -> None:
    assert worst_deviation({"1": 0.001}, (1, 3)) == math.inf
    assert worst_deviation({}, (2,)) == math.inf


def test_no_layer_is_none_too_far() -> None:
    assert worst_deviation({}, ()) == 0.0


def test_not_a_number_does_not_agree() -> None:
    assert agrees(9e-4, "float32")
    assert not agrees(math.nan, "float32")
    assert not agrees(0.0001, "int4")


def test_attention_is_off_where_a_layer_deviates_or_was_not_reached() -> None:
    for found in ({"1": 0.0, "2": 2e-3}, {"1": 0.0}):
        engine = VllmEngine("m", attention_layers=(1, 2))
        engine._prompts = cast(Any, SimpleNamespace(attend_both_ways=False))
        engine._judge([found], "float32")
        assert engine.attention_missing == "attention_mismatch"
