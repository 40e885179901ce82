"""Prompts that attend both ways as a whole: image and question, as PaliGemma was trained.

vLLM lets the image's tokens attend both ways and the question's causally. Its model runners take
the range from each image's place in the prompt, and hand it to the attention's backend with every
step; so a place that names the whole prompt is all that is needed. What was generated stays causal:
the range ends with the prompt, also when a preempted request is computed again.

Keys and values then depend on the whole prompt. So it must not come in chunks, and the engine salts
its cache with the prompt (:meth:`service.engines.vllm.engine.VllmEngine._render`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from service.engines.vllm_plugin import compat, limits


class WholePrompts:
    """Has the prompts of a model runner's requests attend both ways.

    Args:
        runner: its model is loaded, and not compiled yet.

    Raises Incompatible where vLLM cannot do so.
    """

    def __init__(self, runner: Any) -> None:
        limits.refuse_parts(runner.vllm_config)
        _, modules = compat.decoder_of(runner.get_model())
        for layer in (compat.attention_layer(module) for module in modules):
            if layer is None:
                raise compat.Incompatible("model: its decoder's attention is not plain attention")
            if runner.device.type == "cpu":
                _on_cpu(layer, runner)
            else:
                limits.refuse_causal(layer)

    def scheduled(self, requests: Sequence[Any]) -> None:
        """Widen the range of new requests, or of those that come back after preemption."""
        for request in requests:
            length = compat.prompt_length(request.sampling_params)
            if length is not None:
                for feature in request.mm_features:
                    feature.mm_position = whole(feature.mm_position, length)


def whole(place: Any, length: int) -> Any:
    """An image's place in its prompt, with all ``length`` tokens of the prompt as its range."""
    return _whole_prompt()(place.offset, place.length, place.is_embed, length)


@cache
def _whole_prompt() -> Any:
    @dataclass(frozen=True, eq=False)
    class WholePrompt(compat.place_class()):  # type: ignore[misc]
        prompt: int = 0

        def extract_embeds_range(self) -> list[tuple[int, int]]:
            return [(0, self.prompt - 1)]

    return WholePrompt


def _on_cpu(layer: Any, runner: Any) -> None:
    """Compute what the CPU's backend does not: it knows no ranges."""
    reason = compat.unreadable(layer)
    if reason is not None:
        raise compat.Incompatible(f"model: {reason}, which the CPU cannot attend both ways with")
    original = layer.impl.forward
    scale = float(compat.need(layer.impl, "scale"))

    def forward(
        owner: Any, query: Tensor, key: Any, value: Any, cache: Any, metadata: Any,
        *args: Any, **options: Any,
    ) -> Any:  # fmt: skip
        result = original(owner, query, key, value, cache, metadata, *args, **options)
        if metadata is not None:
            output = options["output"] if "output" in options else args[0]
            starts, lengths = metadata.query_start_loc.tolist(), metadata.seq_lens.tolist()
            for row, end in enumerate(compat.ranges(runner)):
                count = end - lengths[row] + starts[row + 1] - starts[row]
                if count > 0:
                    keys, values = compat.keys_and_values(layer)
                    table = metadata.block_table[row, : -(-end // keys.shape[2])].long()
                    rows = slice(starts[row], starts[row] + count)
                    both_ways(query[rows], keys[table], values[table], end, scale, output[rows])
        return result

    layer.impl.forward = forward


def both_ways(
    queries: Tensor, keys: Tensor, values: Tensor, end: int, scale: float, out: Tensor
) -> None:
    """Attention of queries in the prompt to all of it.

    Args:
        queries: (queries, heads, width) or (queries, heads * width).
        keys: (blocks, key heads, block size, width); values: likewise.
        end: length of the prompt.
        scale: of the scores.
        out: of the queries' shape.
    """
    blocks, heads, size, width = keys.shape
    key, value = (
        part.permute(1, 0, 2, 3).reshape(1, heads, blocks * size, width)[:, :, :end]
        for part in (keys, values)
    )
    query = queries.reshape(1, len(queries), -1, width).transpose(1, 2)
    found = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, scale=scale, enable_gqa=True
    )
    out.copy_(found.transpose(1, 2).reshape(out.shape))
