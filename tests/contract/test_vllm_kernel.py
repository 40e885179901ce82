"""Kernels of the GPU, interpreted on the CPU: the plugin's against the plain computation, and
vLLM's own on prompts that attend both ways as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMAGE_ATTENTION = """
import torch
from service.engines.vllm_plugin.attention import gathered_attention
from service.engines.vllm_plugin.kernel import image_attention

torch.manual_seed(0)
for heads, key_heads, width, size in ((4, 4, 32, 16), (8, 2, 64, 16), (7, 1, 48, 32)):
    cache = torch.randn(40, size, key_heads, 2 * width).transpose(1, 2)
    keys, _ = cache.split(width, dim=-1)
    queries = torch.randn(16, heads, width)[:5]
    # The fourth is at a part of its prompt, the fifth has fewer keys than programs.
    lengths = torch.tensor([37, 91, 150, 40, 3], dtype=torch.int32)
    blocks = torch.randperm(40)[:10].repeat(5, 1).int()
    places = torch.tensor([[5, 2, 0, 20, 1], [20, 64, 0, 30, 2]], dtype=torch.int32)
    expected, found = (torch.full((5, 3, 64), torch.nan) for _ in range(2))
    for layer in (2, 0, 1):
        asked = (queries, keys, blocks, lengths, places, width**-0.5)
        gathered_attention(*asked, expected, layer)
        image_attention(*asked, found, layer)
        queries = queries.flip(0)
    assert expected[:2].sum() > 1
    assert (expected[2:4] == 0).all()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
print("same")
"""

SCORES = """
import numpy as np
import torch
from service.engines.vllm_plugin.score_kernel import PART, summed_parts
from service.engines.vllm_plugin.scores import entropy_and_margin, logprobs, summed

torch.manual_seed(0)
for vocabulary, dtype in ((2 * PART + 5, torch.float32), (100, torch.float32), (PART, torch.half)):
    logits = (torch.randn(6, vocabulary + 7) * 4).to(dtype)[:, :vocabulary]  # padded rows
    logits[0, :PART // 2] = -torch.inf
    logits[1, -1] = logits[1, 0] = 25.0
    logits[2, :2] = 25.0
    if vocabulary > PART:
        logits[3, :PART] = -torch.inf
        logits[4, PART:] = -torch.inf
    if dtype == torch.float32 and vocabulary == 100:
        logits[0] = torch.linspace(0, 1, 100)
    found = summed_parts(logits)
    assert found.isfinite()[..., 2:].all()
    expected, found = summed(logits).numpy(), found.numpy()
    np.testing.assert_allclose(logprobs(found), logprobs(expected), rtol=1e-4, atol=1e-5)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(
            entropy_and_margin(one), entropy_and_margin(other), rtol=1e-4, atol=1e-5
        )
print("same")
"""

ROWS = """
import torch
from service.engines.vllm_plugin.row_kernels import COLUMNS, ENTRIES, keep_last, projected

torch.manual_seed(0)
for entries, columns in ((96, 9), (2 * ENTRIES + 8, COLUMNS + 1)):
    matrix, states = torch.randn(3, columns, entries), torch.randn(3, 5, entries)
    found = projected(states.bfloat16(), matrix)
    expected = torch.bmm(states.bfloat16().float(), matrix.mT)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)

    # A prompt of 4, two single tokens, and rows that pad the batch; queries among other values.
    starts = torch.tensor([0, 4, 5, 6, 6, 6], dtype=torch.int32)
    query, output = torch.randn(6, entries + 16)[:, 8:-8], torch.randn(6, entries)
    kept = [torch.full((8, 4, entries // 4), torch.nan) for _ in range(2)]
    keep_last(query, output, starts, *kept)
    for one, whole in zip(kept, (query, output)):
        assert torch.equal(one[:5].flatten(1), whole[[3, 4, 5, 5, 5]])
        assert one[5:].isnan().all()
    keep_last(query, output, torch.zeros(2, dtype=torch.int32), *kept)  # while graphs are captured
    assert torch.equal(kept[0][0].flatten(), query[0])
print("same")
"""

WHOLE_PROMPTS = """
import torch, triton, triton.language
from vllm import triton_utils
triton_utils.tl, triton_utils.triton = triton.language, triton  # left out on a CPU
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.v1.attention.backends.utils import compute_mm_prefix_range_tensor
from vllm.v1.attention.ops.triton_unified_attention import unified_attention
from vllm.v1.worker.gpu.attn_utils import compute_mm_prefix_ranges
from service.engines.vllm_plugin.prefix import both_ways, whole

torch.manual_seed(0)
heads, width, size, scale = 6, 32, 16, 0.2
# Keys, queries, prompt: a prompt, the rest of one in the cache, a token after, an answer to score.
requests = ((70, 70, 70), (37, 5, 37), (50, 1, 45), (60, 12, 50))
lengths, counts, ends = (torch.tensor(column, dtype=torch.int32) for column in zip(*requests))
starts = torch.cat([torch.zeros(1, dtype=torch.int32), counts.cumsum(0).int()])
keys, values = torch.randn(2, 40, size, 1, width)
blocks = torch.randperm(40)[:20].view(4, 5).int()
queries = torch.randn(int(starts[-1]), heads, width)
features = {
    str(n): [MultiModalFeatureSpec(None, "image", "", whole(PlaceholderRange(0, 16), int(end)))]
    for n, end in enumerate(ends)
}
ranges = compute_mm_prefix_ranges(list(features), features, None)
assert ranges == {n: [(0, int(end) - 1)] for n, end in enumerate(ends)}
found = torch.empty_like(queries)
ones = torch.ones(4, 1)
unified_attention(
    queries, keys, values, found, starts, 70, lengths, 70, scale, True, (-1, -1), blocks, 0.0,
    None, ones, ones, mm_prefix_range=compute_mm_prefix_range_tensor(ranges, 4, queries.device),
)
for row, (length, count, end) in enumerate(requests):
    table = blocks[row].long()
    key, value = (part[table].transpose(1, 2) for part in (keys, values))
    for n in range(count):
        at = int(starts[row]) + n
        seen = max(end, length - count + n + 1)
        expected = torch.empty(1, heads, width)
        both_ways(queries[at : at + 1], key, value, seen, scale, expected)
        torch.testing.assert_close(found[at], expected[0], atol=1e-5, rtol=1e-5)
print("same")
"""


def interpret(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={"TRITON_INTERPRET": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "program", [IMAGE_ATTENTION, SCORES, ROWS], ids=["attention", "scores", "rows"]
)
def test_kernel_gives_what_the_plain_computation_gives(program: str) -> None:
    run = interpret(program)
    assert run.stdout.strip() == "same", run.stderr


def test_vllms_kernel_lets_whole_prompts_attend_both_ways() -> None:
    run = interpret(WHOLE_PROMPTS)
    assert run.stdout.strip().endswith("same"), run.stderr
