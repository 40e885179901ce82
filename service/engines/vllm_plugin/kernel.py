"""The same as ``gathered_attention`` on a GPU, without a copy of the keys, in Triton.

Two launches per layer: at a few requests a step, what counts is how many kernels stand in the
GPU's queue, and that no kernel waits for one long loop over a request's keys. So the keys of a
request are shared out over some programs, the more the fewer its key heads are, and the second
kernel puts them together.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LEAST, MOST = 8, 32
"""Programs that share the keys of one request and key head."""
PROGRAMS = 128
"""Of one request, if that is within these limits."""
STEP = 64
"""Keys at a time."""
SMALLEST = 16
"""Side of a matrix that Triton multiplies."""
COLUMNS = 128
"""Image tokens per program of the second kernel."""


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["block_row", "place_row", "score_row", "score_head"]
)
def _scores(  # type: ignore[no-untyped-def]  # Triton looks annotations up, and knows tl's alone
    queries, keys, blocks, lengths, places, scores, totals,
    query_row, query_head,
    key_block, key_head, key_slot, key_width,
    block_row, place_row, score_row, score_head,
    scale,
    HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_PAD: tl.constexpr,
    WIDTH: tl.constexpr, WIDTH_PAD: tl.constexpr, SIZE: tl.constexpr, STEP: tl.constexpr,
    SPLITS: tl.constexpr,
) -> None:  # fmt: skip
    """A share of one request's keys: scores of the image's, and log-sum-exp over all of them."""
    row = tl.program_id(0)
    head = tl.program_id(1)
    split = tl.program_id(2)
    start = tl.load(places + row)
    count = tl.load(places + place_row + row)
    length = tl.load(lengths + row)
    if (count == 0) | (start + count > length):
        return
    span = tl.cdiv(tl.cdiv(length, SPLITS), STEP) * STEP
    first = split * span
    end = tl.minimum(length, first + span)
    member = tl.arange(0, GROUP_PAD)
    width = tl.arange(0, WIDTH_PAD)
    mine = member < GROUP
    inside = width < WIDTH
    q_heads = head * GROUP + member
    query = tl.load(
        queries + row * query_row + q_heads[:, None] * query_head + width[None, :],
        mask=mine[:, None] & inside[None, :],
        other=0.0,
    )
    largest = tl.full((GROUP_PAD,), float("-inf"), tl.float32)
    total = tl.zeros((GROUP_PAD,), tl.float32)
    for begin in range(first, end, STEP):
        at = begin + tl.arange(0, STEP)
        real = at < end
        block = tl.load(blocks + row * block_row + at // SIZE, mask=real, other=0).to(tl.int64)
        slot = at % SIZE
        key = tl.load(
            keys + block[:, None] * key_block + head * key_head + slot[:, None] * key_slot
            + width[None, :] * key_width,
            mask=real[:, None] & inside[None, :],
            other=0.0,
        ).to(query.dtype)  # fmt: skip
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(real[None, :], score, float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(score - higher[:, None]), axis=1)
        largest = higher
        column = at - start
        kept = real & (column >= 0) & (column < count)
        tl.store(
            scores + row * score_row + q_heads[:, None] * score_head + column[None, :],
            score,
            mask=mine[:, None] & kept[None, :],
        )
    # A share without keys: log(0), which adds nothing below.
    tl.store(totals + (row * HEADS + q_heads) * SPLITS + split, largest + tl.log(total), mask=mine)


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["place_row", "score_row", "score_head", "found_row", "found_first", "widest"]
)
def _weights(  # type: ignore[no-untyped-def]
    lengths, places, scores, totals, found,
    place_row, score_row, score_head, found_row, found_first, widest,
    HEADS: tl.constexpr, HEADS_PAD: tl.constexpr,
    SPLITS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Scores to weights, averaged over the heads; 0s where there is no image token."""
    row = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start = tl.load(places + row)
    count = tl.load(places + place_row + row)
    head = tl.arange(0, HEADS_PAD)
    split = tl.arange(0, SPLITS)
    mine = head < HEADS
    parts = tl.load(
        totals + (row * HEADS + head[:, None]) * SPLITS + split[None, :],
        mask=mine[:, None],
        other=0.0,
    )
    largest = tl.max(parts, axis=1)
    total = largest + tl.log(tl.sum(tl.exp(parts - largest[:, None]), axis=1))
    kept = column < tl.where(start + count <= tl.load(lengths + row), count, 0)
    real = mine[:, None] & kept[None, :]
    score = tl.load(
        scores + row * score_row + head[:, None] * score_head + column[None, :],
        mask=real,
        other=0.0,
    )
    weight = tl.where(real, tl.exp(score - total[:, None]), 0.0)
    tl.store(
        found + row * found_row + found_first + column,
        tl.sum(weight, axis=0) / HEADS,
        mask=column < widest,
    )


def image_attention(
    queries: Tensor,
    keys: Tensor,
    blocks: Tensor,
    lengths: Tensor,
    places: Tensor,
    scale: float,
    found: Tensor,
    layer: int,
) -> None:
    """See :func:`service.engines.vllm_plugin.attention.gathered_attention`."""
    rows, heads, width = queries.shape
    key_heads, size = keys.shape[1], keys.shape[2]
    widest = found.shape[2]
    group = heads // key_heads
    splits = min(max(triton.next_power_of_2(PROGRAMS // key_heads), LEAST), MOST)
    # Every entry that is read was written before: no kernel to fill them.
    scores = torch.empty(rows, heads, widest, device=queries.device)
    totals = torch.empty(rows, heads, splits, device=queries.device)
    _scores[(rows, key_heads, splits)](
        queries, keys, blocks, lengths, places, scores, totals,
        queries.stride(0), queries.stride(1),
        *keys.stride(),
        blocks.stride(0), places.stride(0), scores.stride(0), scores.stride(1),
        scale,
        HEADS=heads, GROUP=group, GROUP_PAD=max(SMALLEST, triton.next_power_of_2(group)),
        WIDTH=width, WIDTH_PAD=max(SMALLEST, triton.next_power_of_2(width)), SIZE=size,
        STEP=STEP, SPLITS=splits,
    )  # fmt: skip
    _weights[(rows, triton.cdiv(widest, COLUMNS))](
        lengths, places, scores, totals, found,
        places.stride(0), scores.stride(0), scores.stride(1),
        found.stride(0), layer * found.stride(1), widest,
        HEADS=heads, HEADS_PAD=triton.next_power_of_2(heads), SPLITS=splits, COLUMNS=COLUMNS,
    )  # fmt: skip
