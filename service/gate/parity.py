"""The self-test before the service is ready: does the engine read what it read in training?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from probes.model.bundle import Golden
from probes.types import FloatArray, Generation, Missing
from service.engines.base import Engine
from service.gate.rules import Rules

Part = Callable[[Generation], Generation]
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 6e-2}
"""By arithmetic: largest deviation, as a share of the readout's largest entry (at least 1)."""


def tolerance_of(dtype: str) -> float:
    """The tolerance of an identity's arithmetic, with or without quantization behind a plus sign.

    Raises KeyError for another one.
    """
    return TOLERANCE[dtype.partition("+")[0]]


def deviation(expected: FloatArray, found: FloatArray) -> float:
    """How far a readout lies from the golden one of the same shape.

    Returns the largest difference, as a share of the golden one's largest entry (at least 1).
    """
    largest = max(1.0, float(np.max(np.abs(expected))))
    return float(np.max(np.abs(found - expected))) / largest


class ParityError(Exception):
    """The engine reads something other than it did when the bundle was trained."""


async def check_parity(engine: Engine, rules: Rules) -> None:
    """Run the golden examples one by one, then all at once, and compare what was read.

    The rules' own and then their candidate's, each read as it is while serving: both in one pass.

    Raises:
        ParityError: the bundle has none, or a readout deviates. EngineError: the engine failed.
    """
    await _check(engine, rules, rules, rules.own)
    if rules.candidate is not None:
        await _check(engine, rules, rules.candidate, rules.candidates)


async def _check(engine: Engine, rules: Rules, tested: Rules, part: Part) -> None:
    bundle = tested.bundle
    if not bundle.golden:
        raise ParityError("golden: the bundle has no golden examples; train it again")
    try:
        tolerance = tolerance_of(bundle.model.dtype)
    except KeyError:
        raise ParityError(
            f"model.dtype: there is no tolerance for {bundle.model.dtype!r}"
        ) from None
    readout = rules.readout
    for number, golden in enumerate(bundle.golden):
        generation = await engine.generate(golden.query, readout)
        _compare(f"golden {number} alone", golden, part(generation), tolerance)
    mixed = await asyncio.gather(*(engine.generate(g.query, readout) for g in bundle.golden))
    for number, (golden, generation) in enumerate(zip(bundle.golden, mixed, strict=True)):
        _compare(f"golden {number} in a mixed batch", golden, part(generation), tolerance)


def _compare(which: str, golden: Golden, generation: Generation, tolerance: float) -> None:
    for (layer, position), expected in golden.readouts.items():
        where = f"{which}, layer {layer}, {position}"
        found = generation.trace.readouts.get((layer, position), Missing("not_read"))
        if isinstance(found, Missing):
            raise ParityError(f"{where}: nothing was read ({found.reason})")
        if found.shape != expected.shape:
            raise ParityError(f"{where}: shape {found.shape} instead of {expected.shape}")
        apart = deviation(expected, found)
        if not apart <= tolerance:
            raise ParityError(f"{where}: deviates by {apart:.2g}, more than {tolerance:.2g}")
