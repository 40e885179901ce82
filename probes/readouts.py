"""What an engine reads of an answer: the default layers, and one readout for two bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from probes.types import (
    AttentionMaps,
    FloatArray,
    Generation,
    Missing,
    Readout,
    Trace,
)


@dataclass(frozen=True, slots=True, eq=False)
class SharedReadout:
    """The union of two readouts, and which part of it belongs to each.

    Args:
        whole: layers, positions and attention layers of both; where both read a layer, the columns
            of the second one's projection stand behind those of the first's.
        parts: the two.
        columns: per part and layer, its columns of the whole's projection.
    """

    whole: Readout
    parts: tuple[Readout, Readout]
    columns: tuple[Mapping[int, slice], Mapping[int, slice]]

    @classmethod
    def of(cls, first: Readout, second: Readout) -> SharedReadout:
        """Merge two projected readouts. Raises ValueError when one reads whole hidden states."""
        one, two = _projections(first), _projections(second)
        joined: dict[int, FloatArray] = dict(one)
        columns = {layer: slice(0, matrix.shape[1]) for layer, matrix in one.items()}
        behind: dict[int, slice] = {}
        for layer, matrix in two.items():
            start = 0
            if layer in one and np.array_equal(one[layer], matrix):
                behind[layer] = columns[layer]  # the same probe: read once
                continue
            if layer in one:
                start = one[layer].shape[1]
                joined[layer] = np.concatenate([one[layer], matrix], axis=1)
            else:
                joined[layer] = matrix
            behind[layer] = slice(start, start + matrix.shape[1])
        whole = Readout(
            layers=tuple(dict.fromkeys((*first.layers, *second.layers))),
            positions=tuple(dict.fromkeys((*first.positions, *second.positions))),
            projections=joined,
            attention_layers=tuple(sorted({*first.attention_layers, *second.attention_layers})),
        )
        return cls(whole, (first, second), (columns, behind))

    def part(self, generation: Generation, index: int) -> Generation:
        """Return an answer as if the engine had read only the part with this index (0 or 1)."""
        wanted, columns = self.parts[index], self.columns[index]
        trace = generation.trace
        readouts = {
            (layer, position): row if isinstance(row, Missing) else row[columns[layer]]
            for (layer, position), row in trace.readouts.items()
            if layer in wanted.layers and position in wanted.positions
        }
        attention = _attention(trace, wanted.attention_layers)
        return replace(generation, trace=replace(trace, readouts=readouts, attention=attention))


def _projections(readout: Readout) -> Mapping[int, FloatArray]:
    if readout.projections is None:
        raise ValueError("projections: a readout of whole hidden states has no columns to share")
    return readout.projections


def _attention(trace: Trace, layers: tuple[int, ...]) -> AttentionMaps | Missing:
    maps = trace.attention
    if not layers:
        return Missing("not_requested")
    if isinstance(maps, Missing) or maps.layers == layers:
        return maps
    rows = [maps.layers.index(layer) for layer in layers]
    mean = maps.answer_mean
    return replace(
        maps,
        layers=layers,
        prompt_last=maps.prompt_last[rows],
        answer_mean=mean if isinstance(mean, Missing) else mean[rows],
    )


def default_layers(layers: int) -> tuple[int, ...]:
    """Return the hidden states after a quarter, half, three quarters and all of the decoder."""
    return tuple(sorted({max(1, round(layers * part / 4)) for part in (1, 2, 3, 4)}))
