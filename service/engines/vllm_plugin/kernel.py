"""The same as ``gathered_attention`` on a GPU, without a copy of the keys: one pass, in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


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
) -> None:  # fmt: skip
    """One request and one key head: scores of the image's keys, and log-sum-exp over all keys."""
    row = tl.program_id(0)
    head = tl.program_id(1)
    start = tl.load(places + row)
    count = tl.load(places + place_row + row)
    length = tl.load(lengths + row)
    if count == 0:
        return
    member = tl.arange(0, GROUP_PAD)
    width = tl.arange(0, WIDTH_PAD)
    mine = member < GROUP
    inside = width < WIDTH
    q_heads = head * GROUP + member
    query = tl.load(
        queries + row * query_row + q_heads[:, None] * query_head + width[None, :],
        mask=mine[:, None] & inside[None, :],
        other=0.0,
    ).to(tl.float32)
    largest = tl.full((GROUP_PAD,), float("-inf"), tl.float32)
    total = tl.zeros((GROUP_PAD,), tl.float32)
    for begin in range(0, length, STEP):
        at = begin + tl.arange(0, STEP)
        real = at < length
        block = tl.load(blocks + row * block_row + at // SIZE, mask=real, other=0).to(tl.int64)
        slot = at % SIZE
        key = tl.load(
            keys + block[:, None] * key_block + head * key_head + slot[:, None] * key_slot
            + width[None, :] * key_width,
            mask=real[:, None] & inside[None, :],
            other=0.0,
        ).to(tl.float32)  # fmt: skip
        score = tl.sum(query[:, None, :] * key[None, :, :], axis=2) * scale
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
    tl.store(totals + row * HEADS + q_heads, largest + tl.log(total), mask=mine)


def image_attention(
    queries: Tensor,
    keys: Tensor,
    blocks: Tensor,
    lengths: Tensor,
    places: Tensor,
    widest: int,
    scale: float,
) -> Tensor:
    """See :func:`service.engines.vllm_plugin.attention.gathered_attention`."""
    rows, heads, width = queries.shape
    key_heads, size = keys.shape[1], keys.shape[2]
    group = heads // key_heads
    scores = torch.full((rows, heads, widest), -torch.inf, device=queries.device)
    totals = torch.zeros(rows, heads, device=queries.device)
    padded = triton.next_power_of_2(group)
    _scores[(rows, key_heads)](
        queries, keys, blocks, lengths, places, scores, totals,
        queries.stride(0), queries.stride(1),
        *keys.stride(),
        blocks.stride(0), places.stride(0), scores.stride(0), scores.stride(1),
        scale,
        HEADS=heads, GROUP=group, GROUP_PAD=padded,
        WIDTH=width, WIDTH_PAD=triton.next_power_of_2(width), SIZE=size,
        STEP=max(16, 64 // padded),
    )  # fmt: skip
    return (scores - totals[..., None]).exp().sum(1)
