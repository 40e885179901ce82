"""Attention of the last position of each request, recomputed from the cache of its keys.

The forward pass only keeps the queries of the last positions (and the layer's own output, for the
check); nothing but tensor work may stand there, since CUDA graphs capture it. After it, the softmax
over all keys is recomputed from these queries and the KV cache.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from service.engines.vllm_plugin import compat
from service.engines.vllm_plugin.record import FIRST


class Attention:
    """Reads attention at some layers.

    Args:
        runner: its model is loaded, and not compiled yet.
        layers: decoder layers, 1-based.
        whole_prompts: prompts attend both ways as a whole.
    """

    def __init__(self, runner: Any, layers: tuple[int, ...], whole_prompts: bool = False) -> None:
        _, modules = compat.decoder_of(runner.get_model())
        wrong = [k for k in layers if not 1 <= k <= len(modules)]
        if wrong:
            raise compat.Incompatible(
                f"attention_layers: {wrong} are outside the model's 1 to {len(modules)}"
            )
        self.layers = layers
        self.missing: str | None = None
        """Why attention cannot be read, if it cannot."""
        self._readers: list[_Layer] = []
        self.checking = False
        """Whether every step is compared with what its layers computed themselves."""
        self._whole_prompts = whole_prompts
        self._deviation: dict[str, float] = {}
        found = [compat.attention_layer(modules[k - 1]) for k in layers]
        for k, layer in zip(layers, found, strict=True):
            reason = "unsupported_attention" if layer is None else compat.unreadable(layer)
            if reason is not None:
                self.missing = reason
                return
            self._readers.append(_Layer(k, layer, runner))

    def rows(self, step: compat.Step, places: Tensor, widest: int) -> Tensor:
        """Attention to the image from each request's last position, averaged over the heads.

        Args:
            step: of the runner.
            places: first image position and number of image tokens per request, (2, requests).
            widest: largest number of image tokens.

        Returns (requests, layers, widest), float32, ended by 0s.
        """
        if self.missing is not None:
            widest = 0
        found = torch.empty(len(step.requests), len(self.layers), widest, device=places.device)
        if not widest:
            return found
        for at, reader in enumerate(self._readers):
            reader.write(step, places, found, at)
        if self.checking:
            for reader in self._readers:
                self._found(str(reader.number), reader.deviation(step))
                first = reader.first_deviation(step)
                if first is not None:
                    self._found(FIRST, first)
        return compat.tensor_parallel_mean(found)

    def read(self, step: compat.Step) -> list[Tensor]:
        """What :meth:`rows` reads of vLLM's memory."""
        if self.missing is not None:
            return []
        found = [each for reader in self._readers for each in reader.read(step)]
        return [step.lengths, *found]

    def _found(self, name: str, deviation: float) -> None:
        self._deviation[name] = max(self._deviation.get(name, 0.0), deviation)

    def check(self, on: bool) -> dict[str, float]:
        """Start (forgetting what was found) or end the check. Returns what was found so far.

        Per layer, the largest deviation of softmax(qK)V, recomputed, from the layer's own output,
        as a share of its largest entry. Where prompts attend both ways as a whole, ``first``
        holds the largest of all layers at each prompt's first position, recomputed over all keys.
        """
        found, self.checking = self._deviation, on
        if on:
            self._deviation = {}
        for reader in self._readers:
            reader.keeps_first = on and self._whole_prompts
        return found


class _Layer:
    """One attention layer: its kept queries and outputs, and its cache."""

    def __init__(self, number: int, layer: Any, runner: Any) -> None:
        self.number = number
        self._layer = layer
        impl = layer.impl
        self._scale = float(compat.need(impl, "scale"))
        self._name: str = compat.need(layer, "layer_name")
        heads, width = compat.need(impl, "num_heads"), compat.need(impl, "head_size")
        shape = (compat.need(runner, "max_num_reqs"), heads, width)
        dtype = runner.model_config.dtype
        self._queries = torch.zeros(shape, dtype=dtype, device=runner.device)
        self._outputs = torch.zeros(shape, dtype=dtype, device=runner.device)
        self.keeps_first = False
        """Also keep the first position of each request; never while graphs are captured."""
        self._first: tuple[Tensor, Tensor, Tensor] | None = None
        original = impl.forward

        def forward(
            owner: Any, query: Tensor, key: Any, value: Any, cache: Any, metadata: Any,
            *args: Any, **options: Any,
        ) -> Any:  # fmt: skip
            result = original(owner, query, key, value, cache, metadata, *args, **options)
            if metadata is not None:
                self._keep(metadata, query, options["output"] if "output" in options else args[0])
            return result

        impl.forward = forward

    def _keep(self, metadata: Any, query: Tensor, output: Tensor) -> None:
        starts = metadata.query_start_loc
        rows = [each.view(len(each), *self._queries.shape[1:]) for each in (query, output)]
        if query.device.type == "cuda":
            from service.engines.vllm_plugin.row_kernels import keep_last

            queries, outputs = (each.flatten(1) for each in rows)
            keep_last(queries, outputs, starts, self._queries, self._outputs)
        else:
            last = starts[1:] - 1
            for kept, whole in zip((self._queries, self._outputs), rows, strict=True):
                torch.index_select(whole, 0, last, out=kept[: len(last)])
        if self.keeps_first:
            first = starts[:-1]
            self._first = rows[0][first], rows[1][first], starts.diff()

    def write(self, step: compat.Step, places: Tensor, found: Tensor, at: int) -> None:
        """Fill ``found[:, at]``; see :meth:`Attention.rows`."""
        queries = self._queries[: len(step.requests)]
        keys, _ = compat.keys_and_values(self._layer)
        blocks = step.blocks(self._name)
        compute = gathered_attention
        if keys.device.type == "cuda":
            from service.engines.vllm_plugin.kernel import image_attention as compute
        compute(queries, keys, blocks, step.lengths, places, self._scale, found, at)

    def read(self, step: compat.Step) -> tuple[Tensor, Tensor]:
        """Cache and block table."""
        return compat.need(self._layer, "kv_cache"), step.blocks(self._name)

    def deviation(self, step: compat.Step) -> float:
        """Largest deviation of the recomputed output from the layer's own, as a share of it."""
        rows = range(len(step.requests))
        return max(self._deviates(step, n, self._queries[n], self._outputs[n]) for n in rows)

    def first_deviation(self, step: compat.Step) -> float | None:
        """Likewise at the first position of each prompt, over all of its keys.

        ``None`` for a step that computes no prompt.
        """
        kept, self._first = self._first, None
        if kept is None:
            return None
        queries, outputs, counts = kept
        prompts = [n for n, k in enumerate(counts[: len(step.requests)].tolist()) if k > 1]
        return max((self._deviates(step, n, queries[n], outputs[n]) for n in prompts), default=None)

    def _deviates(self, step: compat.Step, row: int, query: Tensor, output: Tensor) -> float:
        keys, values = compat.keys_and_values(self._layer)
        length, own = int(step.lengths[row]), output.float()
        table = step.blocks(self._name)[row, : -(-length // keys.shape[2])].long()
        weights = softmax_row(query, _flat(keys[table], length), self._scale)
        value = _flat(values[table], length).float()
        again = torch.einsum("kgs,skd->kgd", weights, value).reshape_as(own)
        found = float((again - own).abs().max() / own.abs().max().clamp(min=1e-6))
        return math.inf if math.isnan(found) else found  # a maximum would pass NaN over


def _flat(blocks: Tensor, length: int) -> Tensor:
    """(blocks, heads, size, width) to (length, heads, width)."""
    count, heads, size, width = blocks.shape
    return blocks.permute(0, 2, 1, 3).reshape(count * size, heads, width)[:length]


def softmax_row(query: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Softmax over all keys, (key heads, queries per key head, keys), float32.

    Args:
        query: (heads, width). keys: (keys, key heads, width).
    """
    heads, width = query.shape
    grouped = query.view(keys.shape[1], heads // keys.shape[1], width)
    return (torch.einsum("kgd,skd->kgs", grouped, keys).float() * scale).softmax(-1)


def gathered_attention(
    queries: Tensor,
    keys: Tensor,
    blocks: Tensor,
    lengths: Tensor,
    places: Tensor,
    scale: float,
    found: Tensor,
    layer: int,
) -> None:
    """Attention to the image, averaged over the heads, into ``found[:, layer]``.

    Args:
        queries: (requests, heads, width).
        keys: (blocks, key heads, block size, width).
        blocks: which blocks hold each request's keys, in order, (requests, most blocks).
        lengths: keys per request.
        places: first image position and number of image tokens, (2, requests).
        scale: of the scores.
        found: (requests, layers, most image tokens), float32, dense; ended by 0s.
        layer: its place in ``found``.
    """
    found[:, layer] = 0.0
    starts, counts = places.tolist()
    for row, length in enumerate(lengths[: len(queries)].tolist()):
        start, count = starts[row], counts[row]
        if not count or start + count > length:
            continue
        table = blocks[row, : -(-length // keys.shape[2])].long()
        weights = softmax_row(queries[row], _flat(keys[table], length), scale)
        found[row, layer, :count] = weights.mean((0, 1))[start : start + count]
