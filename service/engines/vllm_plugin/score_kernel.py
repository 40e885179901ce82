"""The same as ``summed`` on a GPU, in one pass over the logits, in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PART = 4096
"""Tokens of the vocabulary per program."""


@triton.jit(do_not_specialize=["logit_row", "vocabulary"])  # type: ignore[untyped-decorator]
def _sums(  # type: ignore[no-untyped-def]  # Triton looks annotations up, and knows tl's alone
    logits, found, logit_row, vocabulary, PART: tl.constexpr
) -> None:  # fmt: skip
    """Largest and second largest logit of a part, and the sums below the largest."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    at = part * PART + tl.arange(0, PART)
    inside = at < vocabulary
    value = tl.load(logits + row * logit_row + at, mask=inside, other=float("-inf"))
    value = value.to(tl.float32)
    best = tl.max(value, axis=0)
    ties = tl.sum((value == best).to(tl.int32), axis=0)
    below = tl.max(tl.where(value < best, value, float("-inf")), axis=0)
    second = tl.where(ties > 1, best, below)
    # Tokens that the model rules out, at -inf, add nothing, even where there is no other.
    real = value > float("-inf")
    shifted = tl.where(real, value - best, 0.0)
    weight = tl.where(real, tl.exp(shifted), 0.0)
    to = found + (row * tl.num_programs(1) + part) * 4
    tl.store(to, best)
    tl.store(to + 1, second)
    tl.store(to + 2, tl.sum(weight, axis=0))
    tl.store(to + 3, tl.sum(weight * shifted, axis=0))


def summed_parts(logits: Tensor) -> Tensor:
    """See :func:`service.engines.vllm_plugin.scores.summed`. The last dimension is dense."""
    rows, vocabulary = logits.shape
    parts = triton.cdiv(vocabulary, PART)
    found = torch.empty(rows, parts, 4, device=logits.device)
    _sums[(rows, parts)](logits, found, logits.stride(0), vocabulary, PART=PART)
    return found
