"""One reading for two bundles gives each what it would have read alone."""

from __future__ import annotations

import numpy as np
import pytest

from probes.readouts import SharedReadout
from probes.types import AttentionMaps, Generation, Missing, Readout, Trace

RANDOM = np.random.default_rng(0)
HIDDEN = {layer: RANDOM.standard_normal(8) for layer in range(5)}
MAPS = RANDOM.random((5, 6))


def readout(columns, positions=("answer_last",), attention=(1, 2)) -> Readout:
    return Readout(
        layers=tuple(columns),
        positions=positions,
        projections={k: RANDOM.standard_normal((8, width)) for k, width in columns.items()},
        attention_layers=attention,
    )


def read(wanted: Readout) -> Generation:
    """What an engine gives back; the states are the same at every position."""
    assert wanted.projections is not None
    rows = list(wanted.attention_layers)
    trace = Trace(
        logprobs=np.zeros(1),
        first_token_entropy=0.0,
        first_token_margin=0.0,
        readouts={
            (layer, position): HIDDEN[layer] @ wanted.projections[layer]
            for layer in wanted.layers
            for position in wanted.positions
        },
        attention=AttentionMaps(wanted.attention_layers, MAPS[rows], MAPS[rows] / 2, (2, 3))
        if rows
        else Missing("not_requested"),
    )
    return Generation("yes", (1,), "stop", trace)


def same(one: Generation, other: Generation) -> None:
    assert one.trace.readouts.keys() == other.trace.readouts.keys()
    for place, row in one.trace.readouts.items():
        np.testing.assert_allclose(row, other.trace.readouts[place], rtol=1e-12)
    if isinstance(one.trace.attention, Missing):
        assert one.trace.attention == other.trace.attention
        return
    assert one.trace.attention.layers == other.trace.attention.layers
    for name in ("prompt_last", "answer_mean"):
        left, right = getattr(one.trace.attention, name), getattr(other.trace.attention, name)
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    "second",
    [
        readout({2: 4}),
        readout({3: 2}),
        readout({2: 4, 3: 1}, positions=("prompt_last", "answer_last")),
        readout({1: 2}, positions=("prompt_last",), attention=(2, 4)),
        readout({1: 2}, attention=()),
    ],
)
def test_each_part_is_what_it_would_have_read_alone(second: Readout) -> None:
    first = readout({2: 3})
    shared = SharedReadout.of(first, second)
    whole = read(shared.whole)
    same(shared.part(whole, 0), read(first))
    same(shared.part(whole, 1), read(second))


def test_the_same_probe_is_read_once() -> None:
    first = readout({2: 3})
    shared = SharedReadout.of(first, first)
    assert shared.whole.projections is not None
    assert shared.whole.projections[2].shape == (8, 3)
    same(shared.part(read(shared.whole), 1), read(first))


def test_what_is_missing_stays_missing() -> None:
    first, second = readout({2: 3}), readout({2: 1})
    shared = SharedReadout.of(first, second)
    trace = Trace(
        np.zeros(0), 0.0, 0.0, {(2, "answer_last"): Missing("empty_answer")}, Missing("no_grid")
    )
    for index in (0, 1):
        part = shared.part(Generation("", (), "stop", trace), index).trace
        assert part.readouts == trace.readouts
        assert part.attention == Missing("no_grid")


def test_whole_states_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="projections"):
        SharedReadout.of(readout({2: 3}), Readout(layers=(2,), positions=("answer_last",)))
