from __future__ import annotations

import pytest
import torch

from service.engines.transformers.taps import WordRows, head_rows, last_row, word_rows


def full_attention(
    query: torch.Tensor, key: torch.Tensor, additive: torch.Tensor, scaling: float
) -> torch.Tensor:
    repeated = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    return ((query @ repeated.transpose(2, 3)) * scaling + additive).softmax(-1)


@pytest.mark.parametrize("scaling", [None, 0.37])
@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_last_row_equals_the_full_matrix(kind: str, scaling: float | None) -> None:
    numbers = torch.Generator().manual_seed(0)
    query = torch.randn((2, 6, 5, 8), generator=numbers)
    key = torch.randn((2, 3, 5, 8), generator=numbers)
    seen = torch.ones(5, 5, dtype=torch.bool).tril()[None, None].repeat(2, 1, 1, 1)
    if kind != "none":
        seen[1, :, :, :2] = False  # left padding of the second row
        seen[:, :, 0, 0] = True
    additive = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    mask = {"none": None, "bool": seen, "additive": additive}[kind]
    expected = full_attention(query, key, additive, scaling or 8**-0.5)[:, :, -1].mean(1)
    torch.testing.assert_close(last_row(query, key, mask, scaling), expected)


@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
def test_word_rows_equal_the_full_matrix(kind: str) -> None:
    numbers = torch.Generator().manual_seed(1)
    query = torch.randn((2, 6, 5, 8), generator=numbers)
    key = torch.randn((2, 3, 5, 8), generator=numbers)
    seen = torch.ones(5, 5, dtype=torch.bool).tril()[None, None].repeat(2, 1, 1, 1)
    if kind != "none":
        seen[1, :, :, :2] = False
        seen[:, :, 2, 4] = True  # as in a prefix that sees all of itself
        seen[:, :, 0, 0] = True
    additive = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    mask = {"none": None, "bool": seen, "additive": additive}[kind]
    # Row 0: columns 2 and 3 are content, 4 boundary; row 1: 3 is content, 2 and 4 boundary.
    columns = torch.tensor([[2, 3, 4], [3, 2, 4]])
    shares = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]])
    full = full_attention(query, key, additive, 8**-0.5).mean(1)
    found = word_rows(query, key, mask, None, WordRows(columns, shares))
    torch.testing.assert_close(found[0, 0], full[0, [2, 3]].mean(0))
    torch.testing.assert_close(found[0, 1], full[0, 4])
    torch.testing.assert_close(found[1, 0], full[1, 3])
    torch.testing.assert_close(found[1, 1], full[1, [2, 4]].mean(0))


def test_heads_are_the_mean_s_parts() -> None:
    numbers = torch.Generator().manual_seed(2)
    query = torch.randn((1, 4, 3, 8), generator=numbers)
    key = torch.randn((1, 2, 3, 8), generator=numbers)
    heads = head_rows(query, key, None, None)
    assert heads.shape == (1, 4, 3)
    expected = full_attention(query, key, torch.zeros(3), 8**-0.5)[:, :, -1]
    torch.testing.assert_close(heads, expected)
    torch.testing.assert_close(last_row(query, key, None, None), expected.mean(1))
