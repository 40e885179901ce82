"""From what the taps read of a batch to each row's trace, with one copy to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from probes.types import (
    POSITIONS,
    AttentionMaps,
    FloatArray,
    Missing,
    Position,
    QuestionMaps,
    Readout,
)
from service.engines.patch_boxes import Grid
from service.engines.transformers.taps import Reading
from service.engines.words import Words

Readouts = Mapping[tuple[int, Position], FloatArray | Missing]
EMPTY = Missing("empty_answer")
NOT_REQUESTED = Missing("not_requested")


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
    grids: Sequence[Grid | None],
) -> list[tuple[AttentionMaps | Missing, AttentionMaps | Missing]]:
    """Each row's attention to its image tokens: averaged over heads, and head by head.

    Args:
        tokens: image tokens per row; the reading's columns beyond them are padding.
        grids: rows and columns of the image tokens, per row.
    """
    layers = list(reading.attention)
    both = _prompt_and_answer(reading, states) if layers else None
    found: list[tuple[AttentionMaps | Missing, AttentionMaps | Missing]] = []
    for row, (readout, grid) in enumerate(zip(readouts, grids, strict=True)):
        wanted = readout.attention_layers
        if not wanted or both is None or grid is None:
            why = _why_none(readout, both is not None)
            found.append((why, why if readout.heads else NOT_REQUESTED))
            continue
        mine = both[:, row, [layers.index(k) for k in wanted], ..., : tokens[row]]
        answered = states[row] > 0
        heads = _maps(readout, mine, grid, answered) if readout.heads else NOT_REQUESTED
        mean = mine.mean(2) if mine.ndim == 4 else mine
        found.append((_maps(readout, mean, grid, answered), heads))
    return found


def question_maps(
    reading: Reading,
    readouts: Sequence[Readout],
    words: Sequence[Words | Missing],
    tokens: Sequence[int],
    grids: Sequence[Grid | None],
) -> list[QuestionMaps | Missing]:
    """Each row's attention from its question's words to its image tokens."""
    host = {k: maps.cpu().numpy() for k, maps in reading.question.items()}
    found: list[QuestionMaps | Missing] = []
    for row, (readout, grid) in enumerate(zip(readouts, grids, strict=True)):
        wanted, mine = readout.attention_layers, words[row]
        if isinstance(mine, Missing):
            found.append(mine)
        elif not (readout.question and wanted) or not host or grid is None:
            found.append(_why_none(readout, bool(host)) if readout.question else NOT_REQUESTED)
        else:
            pair = np.stack([host[k][row, :, : tokens[row]] for k in wanted], 1)
            found.append(QuestionMaps(wanted, pair[0], pair[1], grid))
    return found


def _prompt_and_answer(reading: Reading, states: Sequence[int]) -> FloatArray:
    """The prompt's step and the mean over the answer's, (2, rows, layers, ..., image_tokens)."""
    steps = torch.stack([torch.stack(rows) for rows in reading.attention.values()], 2)
    mean, _ = _mean_and_last(steps.flatten(2), states)
    host: FloatArray = torch.stack([steps[0], mean.view_as(steps[0])]).cpu().numpy()
    return host


def _maps(readout: Readout, rows: FloatArray, grid: Grid, answered: bool) -> AttentionMaps:
    return AttentionMaps(
        layers=readout.attention_layers,
        prompt_last=rows[0],
        answer_mean=rows[1] if answered else EMPTY,
        grid=grid,
    )


def _why_none(readout: Readout, read: bool) -> Missing:
    if not readout.attention_layers:
        return NOT_REQUESTED
    return Missing("no_image_grid" if read else "unsupported_attention")
