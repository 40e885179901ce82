"""A decode step's reading as one CUDA graph: one launch, where its operations are some twenty.

With few requests a step is short, and the launches of its reading keep the host for longer than
the GPU. A graph reads and writes where it did when it was captured, so it stands for a step only
if everything that the step reads lies at the same addresses: block tables and lengths lie in
buffers of vLLM's, hidden states in those of its own decode graphs, and logits mostly in the same
piece of the allocator's memory. A graph keeps none of these alive.

All graphs share one pool of memory, so that one may overwrite what another has left. Every result
is copied to the host in the order of the stream right after its replay, before any other runs.

Nothing here waits for the GPU, which would run dry: whether a graph gives what the plain
computation does is seen when a step of its kind comes again after the capture.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from service.engines.vllm_plugin.copies import Copies, Copy
from service.engines.vllm_plugin.rows import Computed

FEW = 32
"""Requests of a step; with more, the model's own pass hides the launches."""
MEETINGS = 3
"""Steps of one kind that are computed as ever before the next is captured."""
LIMIT = 128
"""Kinds of steps that are remembered, the latest, with their graphs."""
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""How far a graph's result may lie from the plain one."""

log = logging.getLogger(__name__)

Compute = Callable[[], Computed]


class Graph(Protocol):
    """What was captured; its result lies in the same tensor after every replay."""

    def replay(self) -> None: ...


Capture = Callable[[Compute], tuple[Graph, Computed]]
"""Records a computation, without running it; also returns where its results will lie."""


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    """A graph, where its results lie, and on its way to the host whether it is right."""

    graph: Graph
    result: Computed
    right: Copy


@dataclass(slots=True, eq=False)
class _Kind:
    """Steps that read the same memory: how often they were met, and their graph."""

    meetings: int = 0
    captured: _Captured | None = None
    used: bool = False
    """The graph was found to be right."""


class Graphs:
    """The graphs of one reader.

    Args:
        device: where the steps are computed.
        capture: how it captures.
    """

    def __init__(self, device: torch.device, capture: Capture) -> None:
        self.missing: str | None = None
        """Why no graph is used any more, if none is."""
        self._capture = capture
        self._copies = Copies(device)
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def __len__(self) -> int:
        return sum(kind.used for kind in self._kinds.values())

    def computed(self, key: Hashable, compute: Compute) -> Computed:
        """What ``compute`` returns, of a graph's replay where there is one.

        Args:
            key: of :func:`key_of`.
            compute: reads and writes on the device alone.
        """
        if self.missing is not None:
            return compute()
        kind = self._kinds.setdefault(key, _Kind())
        self._kinds.move_to_end(key)
        if kind.captured is not None and self._right(kind, kind.captured):
            kind.captured.graph.replay()
            return kind.captured.result
        found = compute()
        kind.meetings += 1
        if kind.meetings > MEETINGS and kind.captured is None and self.missing is None:
            kind.captured = self._captured(compute, found)
        if len(self._kinds) > LIMIT:
            self._kinds.popitem(last=False)
        return found

    def drop(self) -> None:
        """Forget all graphs: what is computed has changed."""
        self._kinds.clear()

    def _captured(self, compute: Compute, expected: Computed) -> _Captured | None:
        try:
            graph, result = self._capture(compute)
            graph.replay()
            near = torch.isclose(result.values, expected.values, RELATIVE, ABSOLUTE, True)
            return _Captured(graph, result, self._copies.start(near.all().float().reshape(1)))
        except Exception as failure:  # whatever it is: the step has its result by now
            self._off(f"{type(failure).__name__}: {failure}")
            return None

    def _right(self, kind: _Kind, captured: _Captured) -> bool:
        """Whether the graph may stand for its steps, as far as is known by now."""
        if not kind.used and captured.right.done:
            kind.used = bool(captured.right.wait()[0])
            if not kind.used:
                self._off("its result differs from the plain one")
        return kind.used

    def _off(self, reason: str) -> None:
        self.missing = reason
        self.drop()
        log.warning("steps are read without CUDA graphs from now on, more slowly: %s", reason)


class CudaCapture:
    """Captures on a stream of its own; see :data:`Capture`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._newest: torch.cuda.CUDAGraph | None = None
        """Kept, so that the pool of memory outlives the graphs that were dropped; and a graph whose
        capture failed, since the allocator may still ask it which stream it was captured on."""

    def __call__(self, compute: Compute) -> tuple[Graph, Computed]:
        # What is computed calls no cuBLAS, whose workspace for the stream would lie in the pool.
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        current, graph = torch.cuda.current_stream(self._device), torch.cuda.CUDAGraph()
        previous, self._newest = self._newest, graph
        pool = None if previous is None else previous.pool()
        # Not torch.cuda.graph(): it collects garbage and empties the allocator's cache.
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                result = compute()
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)
        return graph, result


def graphs_for(runner: Any) -> Graphs | None:
    """The graphs of a model runner's reader, or ``None`` where none can be used.

    With tensor parallelism vLLM's all-reduce registers its buffers while it is captured; without
    vLLM's own graphs hidden states lie elsewhere in each step.
    """
    config = runner.vllm_config
    parallel = config.parallel_config.tensor_parallel_size > 1
    if runner.device.type != "cuda" or parallel or config.model_config.enforce_eager:
        return None
    return Graphs(runner.device, CudaCapture(runner.device))


def key_of(numbers: Iterable[int], tensors: Iterable[Tensor]) -> Hashable:
    """What two steps have in common that one graph can stand for.

    Args:
        numbers: sizes that the computation depends on.
        tensors: everything that it reads and that does not always lie in the same place.
    """
    places = ((each.data_ptr(), each.dtype, each.shape, each.stride()) for each in tensors)
    return (*numbers, *places)
