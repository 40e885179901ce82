"""From what the taps read of a batch to each row's trace, with one copy to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from probes.types import POSITIONS, AttentionMaps, FloatArray, Missing, Position, Readout
from service.engines.taps import Reading

Readouts = Mapping[tuple[int, Position], FloatArray | Missing]
EMPTY = Missing("empty_answer")


def hidden_readouts(
    reading: Reading, readouts: Sequence[Readout], states: Sequence[int]
) -> list[Readouts]:
    """Each row's hidden-state readouts.

    Args:
        reading: of the batch.
        readouts: one per row.
        states: per row, how many answer tokens have a state (a last token that was sampled but
            never fed back has none).
    """
    found: list[Readouts] = [{} for _ in readouts]
    for readout in {id(each): each for each in readouts}.values():
        rows = [row for row, each in enumerate(readouts) if each is readout]
        if not readout.layers or not readout.positions:
            continue
        vectors = [_vectors(reading, readout, k, rows, states) for k in readout.layers]
        host = torch.cat([each.flatten() for each in vectors]).cpu().numpy()
        cuts = np.cumsum([each.numel() for each in vectors])[:-1]
        parts = [
            part.reshape(each.shape)
            for part, each in zip(np.split(host, cuts), vectors, strict=True)
        ]
        for place, row in enumerate(rows):
            found[row] = {
                (layer, position): (
                    EMPTY
                    if position != "prompt_last" and states[row] == 0
                    else parts[at][POSITIONS.index(position), place]
                )
                for at, layer in enumerate(readout.layers)
                for position in readout.positions
            }
    return found


def _vectors(
    reading: Reading, readout: Readout, layer: int, rows: Sequence[int], states: Sequence[int]
) -> Tensor:
    """The three positions of one layer, projected when asked, float32, (3, rows, columns)."""
    steps = torch.stack(reading.hidden[layer])[:, rows].float()
    three = torch.stack([steps[0], *_mean_and_last(steps, [states[row] for row in rows])])
    if readout.projections is None:
        return three
    matrix = np.asarray(readout.projections[layer], dtype=np.float32)
    return three @ torch.from_numpy(matrix).to(three.device)


def _mean_and_last(steps: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and last over each row's first ``counts`` answer steps; zeros where there is none."""
    count = torch.tensor(counts, device=steps.device)
    step = torch.arange(1, len(steps), device=steps.device)
    mine = (step[:, None] <= count).to(steps.dtype)[..., None]
    # where, not times: a row that ended is fed padding, whose state may be anything.
    mean = torch.where(mine > 0, steps[1:], 0.0).sum(0) / count.clamp(min=1)[:, None]
    last = steps[count, torch.arange(len(counts), device=steps.device)]
    return mean, last


def attention_maps(
    reading: Reading,
    readouts: Sequence[Readout],
    states: Sequence[int],
    tokens: Sequence[int],
    grids: Sequence[tuple[int, int] | None],
) -> list[AttentionMaps | Missing]:
    """Each row's attention to its image tokens, or why there is none.

    Args:
        tokens: image tokens per row; the reading's columns beyond them are padding.
        grids: rows and columns of the image tokens, per row.
    """
    maps: list[AttentionMaps | Missing] = []
    host: Mapping[int, tuple[FloatArray, FloatArray]] = {}
    if reading.attention:
        layers = list(reading.attention)
        steps = torch.stack([torch.stack(reading.attention[k]) for k in layers], -2)
        mean, _ = _mean_and_last(steps.flatten(2), states)
        both = torch.stack([steps[0], mean.view_as(steps[0])]).cpu().numpy()
        host = {k: (both[0, :, at], both[1, :, at]) for at, k in enumerate(layers)}
    for row, readout in enumerate(readouts):
        grid = grids[row]
        if not readout.attention_layers:
            maps.append(Missing("not_requested"))
        elif not host:
            maps.append(Missing("unsupported_attention"))
        elif grid is None:
            maps.append(Missing("no_image_grid"))
        else:
            wanted, size = readout.attention_layers, tokens[row]
            answer = np.stack([host[k][1][row, :size] for k in wanted])
            maps.append(
                AttentionMaps(
                    layers=wanted,
                    prompt_last=np.stack([host[k][0][row, :size] for k in wanted]),
                    answer_mean=answer if states[row] else EMPTY,
                    grid=grid,
                )
            )
    return maps
