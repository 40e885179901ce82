"""Rows of a step on a GPU, in Triton: those that are kept while the model runs, and projections.

What a step of few requests takes is the number of kernels in the GPU's queue, hardly their work.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ENTRIES = 1024
"""Of a row per program, or at a time."""
COLUMNS = 16
"""Of a projection per program."""


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["query_row", "output_row"]
)
def _last(  # type: ignore[no-untyped-def]  # Triton looks annotations up, and knows tl's alone
    query, output, starts, queries, outputs, query_row, output_row,
    WIDTH: tl.constexpr, ENTRIES: tl.constexpr,
) -> None:  # fmt: skip
    """A part of one request's last query and output."""
    row = tl.program_id(0).to(tl.int64)
    # Rows that only pad a batch, before a first request even, hold no position.
    last = tl.maximum(tl.load(starts + row + 1) - 1, 0).to(tl.int64)
    at = tl.program_id(1) * ENTRIES + tl.arange(0, ENTRIES)
    inside = at < WIDTH
    to = row * WIDTH + at
    tl.store(queries + to, tl.load(query + last * query_row + at, mask=inside), mask=inside)
    tl.store(outputs + to, tl.load(output + last * output_row + at, mask=inside), mask=inside)


def keep_last(
    query: Tensor, output: Tensor, starts: Tensor, queries: Tensor, outputs: Tensor
) -> None:
    """Copy the queries and outputs at the last position of each request, in one launch.

    Args:
        query: (tokens, entries), each row dense. output: likewise.
        starts: first position of each request, and the end of the last, (requests + 1,).
        queries: (requests or more, entries), dense; gets the queries. outputs: likewise.
    """
    entries = query.shape[1]
    grid = (len(starts) - 1, triton.cdiv(entries, ENTRIES))
    _last[grid](
        query, output, starts, queries, outputs, query.stride(0), output.stride(0),
        WIDTH=entries, ENTRIES=ENTRIES,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows", "columns"])  # type: ignore[untyped-decorator]
def _project(  # type: ignore[no-untyped-def]
    states, matrix, found, rows, columns,
    WIDTH: tl.constexpr, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Some columns of one row of one layer."""
    row = tl.program_id(0).to(tl.int64)
    layer = tl.program_id(1).to(tl.int64)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    real = column < columns
    product = tl.zeros((ENTRIES, COLUMNS), tl.float32)
    for begin in range(0, WIDTH, ENTRIES):
        at = begin + tl.arange(0, ENTRIES)
        inside = at < WIDTH
        state = tl.load(states + (layer * rows + row) * WIDTH + at, mask=inside, other=0.0)
        part = tl.load(
            matrix + (layer * columns + column[None, :]) * WIDTH + at[:, None],
            mask=inside[:, None] & real[None, :],
            other=0.0,
        )
        product += state.to(tl.float32)[:, None] * part
    to = found + (layer * rows + row) * columns + column
    tl.store(to, tl.sum(product, axis=0), mask=real)


def projected(states: Tensor, matrix: Tensor) -> Tensor:
    """Each layer's states times the columns of its matrix, (layers, rows, columns), float32.

    Args:
        states: (layers, rows, entries), dense.
        matrix: (layers, columns, entries), float32, dense.
    """
    layers, rows, entries = states.shape
    columns = matrix.shape[1]
    found = torch.empty(layers, rows, columns, device=states.device)
    _project[(rows, layers, triton.cdiv(columns, COLUMNS))](
        states, matrix, found, rows, columns,
        WIDTH=entries, ENTRIES=ENTRIES, COLUMNS=COLUMNS, num_warps=8,
    )  # fmt: skip
    return found
