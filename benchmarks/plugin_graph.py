"""What a CUDA graph saves of a decode step's reading: microseconds of the host and GPU per step.

Also what the host takes for a step in which a graph is captured. On a stand-in with the memory of
vLLM's V2 model runner, in a published model's shape; vLLM is not needed. Every step is read plainly
and by its graph, and ends in an error if these differ or no graph was used. On a CPU both are
plain: a trial of the script alone.

    python -m benchmarks.plugin_graph
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.host import describe
from probes.types import POSITIONS, Readout
from service.engines.vllm.plan import Plan
from service.engines.vllm_plugin import compat
from service.engines.vllm_plugin.graph import MEETINGS, Graphs, graphs_for
from service.engines.vllm_plugin.record import KEY, StepRows
from service.engines.vllm_plugin.runner import Reader

REQUESTS = (1, 8, 32)
QUEUED = 20
"""Steps whose reading waits in the GPU's queue, to be timed."""
SLEEP = 100_000_000
"""Cycles for which the GPU waits meanwhile."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a model, and of what is read of it; PaliGemma 3B's, if nothing else is said."""

    hidden: int = 2048
    heads: int = 8
    key_heads: int = 1
    width: int = 256
    vocabulary: int = 257_152
    image_tokens: int = 256
    keys: int = 320
    block: int = 16
    requests: int = 32
    layers: tuple[int, ...] = (4, 8, 12, 16)
    attention_layers: tuple[int, ...] = (9, 13)
    columns: int = 9


SHAPES = {
    "paligemma-3b": Shape(),
    "qwen2-vl-7b": Shape(
        hidden=3584, heads=28, key_heads=4, width=128, vocabulary=152_064, image_tokens=144,
        keys=304, layers=(7, 14, 21, 28), attention_layers=(14, 21),
    ),
    "llava-1.5-7b": Shape(
        hidden=4096, heads=32, key_heads=32, width=128, vocabulary=32_064, image_tokens=576,
        keys=720, layers=(8, 16, 24, 32), attention_layers=(16, 24),
    ),
}  # fmt: skip


class LlavaForConditionalGeneration(nn.Module):
    """Hands hidden states out by vLLM's own path; its logits always lie in the same memory."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        super().__init__()
        depth = max(*shape.layers, *shape.attention_layers)
        decoder = nn.Module()
        decoder.layers = nn.ModuleList(nn.Identity() for _ in range(depth))
        decoder._set_aux_hidden_state_layers = lambda layers: None  # type: ignore[assignment]
        self._decoder = SimpleNamespace(model=decoder)
        self.logits = torch.zeros(shape.requests, shape.vocabulary, device=device)

    def get_language_model(self) -> Any:
        return self._decoder

    def compute_logits(self, count: int) -> Tensor:
        return self.logits[:count]


class Standin:
    """A V2 model runner between ``execute_model`` and ``sample_tokens``."""

    use_aux_hidden_state_outputs = False
    execute_model_state: Any = None

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.max_num_reqs = self.max_num_tokens = shape.requests
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.model_config = SimpleNamespace(
            get_hidden_size=lambda: shape.hidden, dtype=dtype, enforce_eager=False
        )
        self.vllm_config = SimpleNamespace(
            model_config=self.model_config,
            parallel_config=SimpleNamespace(tensor_parallel_size=1),
        )
        self.model = LlavaForConditionalGeneration(shape, device)
        most = -(-shape.keys // shape.block)
        cache = (shape.requests * most, shape.key_heads, shape.block, 2 * shape.width)
        self.attentions = [
            SimpleNamespace(
                impl=SimpleNamespace(
                    scale=shape.width**-0.5, num_heads=shape.heads, head_size=shape.width,
                    forward=lambda *arguments: None,
                ),
                attn_backend=SimpleNamespace(get_name=lambda: "TRITON_ATTN"),
                layer_name=f"layer {k}",
                head_size=shape.width,
                kv_cache=torch.randn(cache, device=device, dtype=dtype),
            )
            for k in shape.attention_layers
        ]  # fmt: skip
        self._states = [
            torch.zeros(shape.requests, shape.hidden, device=device, dtype=dtype)
            for _ in shape.layers
        ]
        blocks = torch.randperm(shape.requests * most).view(shape.requests, most)
        self._blocks = blocks.to(device, torch.int32)
        self._starts = torch.arange(shape.requests + 1, dtype=torch.int32, device=device)
        self._lengths = torch.zeros(shape.requests, dtype=torch.int32, device=device)

    def get_model(self) -> nn.Module:
        return self.model

    def forward(self, names: Sequence[str]) -> None:
        """A decode step: new values in the same memory."""
        shape, count = self.shape, len(names)
        for values in (self.model.logits, *self._states):
            values.normal_()
        self._lengths[:count].random_(shape.image_tokens + 3, shape.keys + 1)
        metadata = SimpleNamespace(query_start_loc=self._starts[: count + 1])
        for layer in self.attentions:
            size = (count, shape.heads * shape.width)
            query = torch.randn(size, device=self.device, dtype=self.model_config.dtype)
            layer.impl.forward(layer, query, None, None, layer.kv_cache, metadata, query)
        tables = SimpleNamespace(block_table=self._blocks)
        self._state = SimpleNamespace(
            input_batch=SimpleNamespace(
                req_ids=list(names),
                num_reqs=count,
                num_tokens=count,
                query_start_loc=self._starts,
                seq_lens=self._lengths,
            ),
            attn_metadata={layer.layer_name: tables for layer in self.attentions},
            hidden_states=self._states[0],
            aux_hidden_states=self._states,
        )

    def start(self, reader: Reader) -> Any:
        """The step's output, whose rows are on their way."""
        self.execute_model_state = self._state
        return reader.sample(self, _sample_tokens)

    def read(self, reader: Reader) -> tuple[StepRows, float, float]:
        """The rows of the step, seconds until they are on their way, and until they are there."""
        begun = time.perf_counter()
        output = self.start(reader)
        sent = time.perf_counter()
        rows: StepRows = getattr(output.get_output(), KEY)
        return rows, sent - begun, time.perf_counter() - sent


Standin.__module__ = compat.V2


class Later:
    """Stands for vLLM's AsyncModelRunnerOutput."""

    def get_output(self) -> Any:
        return SimpleNamespace()


def _sample_tokens(runner: Standin) -> Later:
    state, runner.execute_model_state = runner.execute_model_state, None
    runner.model.compute_logits(state.input_batch.num_reqs)
    return Later()


@contextmanager
def without_vllm(runner: Standin) -> Iterator[None]:
    """What the plugin asks of vLLM itself, answered for a stand-in."""
    layers = iter(runner.attentions * 2)  # of two readers
    with (
        patch.object(compat, "attention_layer", lambda layer: next(layers)),
        patch.object(compat, "tensor_parallel_mean", lambda values: values),
        patch.object(compat, "async_output_class", lambda: Later),
    ):
        yield


def armed(runner: Standin, names: Sequence[str], graphs: Graphs | None) -> Reader:
    """A reader of requests whose images lie in different places."""
    shape = runner.shape
    reader = Reader(runner, shape.layers, shape.attention_layers, graphs=graphs)
    reader.watch_logits(runner.model)
    numbers = np.random.default_rng(0)
    size = (shape.hidden, shape.columns)
    matrices = {k: numbers.normal(size=size) / shape.hidden**0.5 for k in shape.layers}
    readout = Readout(shape.layers, POSITIONS, matrices, attention_layers=shape.attention_layers)
    reader.install(Plan((readout,), shape.layers, shape.hidden).message())
    requests = []
    for n, name in enumerate(names):
        place = SimpleNamespace(offset=n % 3, length=shape.image_tokens // (1 + n % 2))
        place.is_embed = None
        requests.append(
            SimpleNamespace(
                req_id=name,
                sampling_params=SimpleNamespace(extra_args={KEY: {"attention": True}}),
                mm_features=[SimpleNamespace(mm_position=place)],
            )
        )
    reader.scheduled(SimpleNamespace(scheduled_new_reqs=requests, finished_req_ids=set()))
    return reader


def deviation(found: StepRows, expected: StepRows) -> float:
    """Largest difference of any value, as a share of 1 or of the value, if that is larger."""
    assert found.rows == expected.rows
    worst = 0.0
    for part in ("hidden", "logits", "attention"):
        one, other = getattr(found, part), getattr(expected, part)
        assert one.shape == other.shape
        assert other.any()
        worst = max(worst, float((np.abs(one - other) / np.maximum(1, np.abs(other))).max()))
    return worst


def gpu_seconds(runner: Standin, reader: Reader) -> float:
    """What the GPU takes for the reading of a step that it does not have to wait for."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda._sleep(SLEEP)  # type: ignore[no-untyped-call]
    begin.record()
    outputs = [runner.start(reader) for _ in range(QUEUED)]
    end.record()
    for output in outputs:
        output.get_output()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / QUEUED


@torch.inference_mode()
def measure(shape: Shape, device: torch.device, count: int, steps: int) -> dict[str, Any]:
    """Medians over steps of so many requests, read plainly and by a graph."""
    runner = Standin(shape, device)
    names = [f"request {n}" for n in range(count)]
    seconds = defaultdict[str, list[float]](list)
    worst = 0.0
    with without_vllm(runner):
        plain = armed(runner, names, None)
        graphed = armed(runner, names, graphs_for(runner))
        for step in range(steps):
            # The same batch in another order every ten steps: a graph must follow.
            order = names if step // 10 % 2 else names[::-1]
            runner.forward(order)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            expected, *plainly = runner.read(plain)
            found, *by_graph = runner.read(graphed)
            worst = max(worst, deviation(found, expected))
            if step == MEETINGS:
                seconds["capture"].append(by_graph[0])
            if step > MEETINGS + 10:
                for name, each in (("plain", plainly), ("graph", by_graph)):
                    seconds[name].append(each[0])
                    seconds[f"{name}_wait"].append(each[1])
        if device.type == "cuda":
            for name, reader in (("plain_gpu", plain), ("graph_gpu", graphed)):
                seconds[name].append(gpu_seconds(runner, reader))
    graphs = graphed.graphs
    return {
        "microseconds": {name: round(1e6 * median(each), 1) for name, each in seconds.items()},
        "largest_deviation": worst,
        "graphs": None if graphs is None else len(graphs),
        "missing": None if graphs is None else graphs.missing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="paligemma-3b", choices=SHAPES)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, help="result, as JSON")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    shape = SHAPES[arguments.shape]
    found = {str(n): measure(shape, device, n, arguments.steps) for n in REQUESTS}
    told = {"host": describe(), "shape": arguments.shape, "requests": found}
    text = json.dumps(told, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)
    for count, each in found.items():
        if each["largest_deviation"] > 1e-3 or (device.type == "cuda" and not each["graphs"]):
            sys.exit(f"{count} requests: {each}")


if __name__ == "__main__":
    main()
