"""The start-up check: is attention read as the layers compute it?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from probes.types import Query
from service.engines.base import EngineError

ATTENTION_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 4e-2}
"""Largest deviation of recomputed attention outputs from the layer's own, as a share of the
largest entry, by arithmetic."""


def agrees(deviation: float, dtype: str) -> bool:
    """Whether a deviation is what the arithmetic explains; NaN is not."""
    return deviation <= ATTENTION_TOLERANCE.get(dtype, 0.0)


def worst_deviation(found: Mapping[str, float], layers: Sequence[int]) -> float:
    """The largest deviation found; a layer that the check did not reach is infinitely far off."""
    return max((found.get(str(layer), math.inf) for layer in layers), default=0.0)


def check_both_ways(deviation: float, dtype: str) -> None:
    """See that prompts attend both ways as a whole. Raises EngineError.

    Args:
        deviation: of attention at the first positions of prompts from attention to all of each.
        dtype: the arithmetic.
    """
    if not agrees(deviation, dtype):
        raise EngineError(
            f"vllm: attention at the first position of a prompt is {deviation:.2g} off from "
            "attention to all of it; this vLLM reads image and question otherwise than the "
            "model was trained: use another attention_backend, or the engine transformers"
        )


def sample_query(number: int) -> Query:
    """One of a few queries to check with, of different lengths."""
    image = np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8)
    return Query(image, "what is this? " * (number + 1), max_tokens=4)
