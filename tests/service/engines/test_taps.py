from __future__ import annotations

import pytest
import torch

from service.engines.taps import last_row


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
