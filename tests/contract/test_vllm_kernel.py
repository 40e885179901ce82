"""The GPU's kernel for attention, interpreted on the CPU, against the plain computation."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import torch
from service.engines.vllm_plugin.attention import gathered_attention
from service.engines.vllm_plugin.kernel import image_attention

torch.manual_seed(0)
for heads, key_heads, width, size in ((4, 4, 32, 16), (8, 2, 64, 16), (7, 1, 48, 32)):
    cache = torch.randn(40, size, key_heads, 2 * width).transpose(1, 2)
    keys, _ = cache.split(width, dim=-1)
    queries = torch.randn(16, heads, width)[:3]
    lengths = torch.tensor([37, 91, 150], dtype=torch.int32)
    blocks = torch.randperm(40)[:30].view(3, 10).int()
    places = torch.tensor([[5, 2, 0], [20, 64, 0]], dtype=torch.int32)
    asked = (queries, keys, blocks, lengths, places, 64, width**-0.5)
    expected, found = gathered_attention(*asked), image_attention(*asked)
    assert expected[:2].sum() > 1
    assert (expected[2] == 0).all()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
print("same")
"""


def test_kernel_gives_what_the_plain_computation_gives() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"TRITON_INTERPRET": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout.strip() == "same", run.stderr
