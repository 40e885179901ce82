"""From the record that a request brought back to its trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from probes.types import (
    AttentionMaps,
    FloatArray,
    Missing,
    Position,
    Readout,
    Trace,
)
from service.engines.base import EngineError
from service.engines.patch_boxes import Grid
from service.engines.transformers.traces import EMPTY, NOT_REQUESTED
from service.engines.vllm.plan import Plan
from service.engines.vllm_plugin.record import Record

NOT_SUPPORTED = Missing("not_supported")
"""What only the offline comparison reads, through the transformers engine."""


def trace_of(
    record: Record,
    readout: Readout,
    plan: Plan,
    *,
    tokens: int,
    ended: bool,
    grid: Grid | None,
    attention_layers: Sequence[int],
    attention_missing: str | None,
) -> Trace:
    """The trace of one answer. Raises EngineError when the record is not this answer's.

    Args:
        record: of the request; it counts a state for every token but the last one sampled.
        plan: that held while the request ran.
        tokens: of the answer, end token left out.
        ended: the model ended it, so the end token was the last one sampled.
        grid: of the image.
        attention_layers: armed.
        attention_missing: why attention cannot be read, if it cannot.
    """
    sampled = tokens + ended
    if len(record.logprobs) != sampled or record.states != sampled - 1:
        raise EngineError(
            f"the record holds {len(record.logprobs)} tokens where {sampled} were sampled"
        )
    if math.isnan(record.entropy) or math.isnan(record.margin):
        raise EngineError("the record holds no scores of the first token")
    return Trace(
        logprobs=np.minimum(np.asarray(record.logprobs[:tokens], np.float32), 0.0),
        first_token_entropy=max(record.entropy, 0.0),
        first_token_margin=record.margin,
        readouts=_readouts(record, readout, plan),
        attention=_attention(record, readout, grid, attention_layers, attention_missing),
        heads=NOT_SUPPORTED if readout.heads else NOT_REQUESTED,
        question=NOT_SUPPORTED if readout.question else NOT_REQUESTED,
        lens=NOT_SUPPORTED if readout.lens else NOT_REQUESTED,
    )


def _readouts(
    record: Record, readout: Readout, plan: Plan
) -> Mapping[tuple[int, Position], FloatArray | Missing]:
    places: dict[Position, FloatArray | Missing] = {
        "prompt_last": record.hidden,
        "answer_mean": record.hidden_sum / record.states if record.states else EMPTY,
        "answer_last": record.hidden_last if record.states else EMPTY,
    }
    found: dict[tuple[int, Position], FloatArray | Missing] = {}
    for layer in readout.layers:
        at = plan.layers.index(layer)
        for position in readout.positions:
            value = places[position]
            found[layer, position] = (
                value if isinstance(value, Missing) else _projected(value[at], layer, readout, plan)
            )
    return found


def _projected(state: FloatArray, layer: int, readout: Readout, plan: Plan) -> FloatArray:
    if readout.projections is None:
        return state
    matrix = readout.projections[layer]
    if plan.whole:
        projected: FloatArray = state @ np.asarray(matrix, np.float32)
        return projected
    start = plan.start(readout)
    return state[start : start + matrix.shape[1]]


def _attention(
    record: Record,
    readout: Readout,
    grid: Grid | None,
    armed: Sequence[int],
    missing: str | None,
) -> AttentionMaps | Missing:
    if not readout.attention_layers:
        return Missing("not_requested")
    if missing is not None:
        return Missing(missing)
    if grid is None or record.attention.shape[1] != grid[0] * grid[1]:
        return Missing("no_image_grid")
    rows = [list(armed).index(layer) for layer in readout.attention_layers]
    return AttentionMaps(
        layers=readout.attention_layers,
        prompt_last=record.attention[rows],
        answer_mean=record.attention_sum[rows] / record.states if record.states else EMPTY,
        grid=grid,
    )
