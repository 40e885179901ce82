"""When a step is computed and when a graph stands for it. Graphs are stand-ins: they compute again
from the memory that was captured; real ones are compared by ``benchmarks.plugin_graph``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.plugin_graph import Shape, Standin, armed, deviation, without_vllm
from service.engines.vllm_plugin import graph as graph_module
from service.engines.vllm_plugin.copies import Copy
from service.engines.vllm_plugin.graph import (
    FEW,
    LIMIT,
    MEETINGS,
    CudaCapture,
    Graphs,
    graphs_for,
    key_of,
)
from service.engines.vllm_plugin.rows import Computed

SHAPE = Shape(
    hidden=16, heads=4, key_heads=2, width=4, vocabulary=11, image_tokens=70, keys=90, block=8,
    requests=FEW + 1, layers=(1, 2), attention_layers=(1, 2), columns=3,
)  # fmt: skip
CPU = torch.device("cpu")


class Recorded:
    """A graph of a computation: a replay writes its result to the same memory again."""

    def __init__(self, compute: graph_module.Compute) -> None:
        self._compute = compute
        self.result = compute()
        self.result.values.zero_()  # a capture computes nothing
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.result.values.copy_(self._compute().values)


class Device:
    """Captures, and keeps what it captured."""

    def __init__(self) -> None:
        self.graphs: list[Recorded] = []

    def __call__(self, compute: graph_module.Compute) -> tuple[Recorded, Computed]:
        self.graphs.append(Recorded(compute))
        return self.graphs[-1], self.graphs[-1].result


class Doubled:
    """A computation that reads one tensor; counts how often it ran."""

    def __init__(self, source: Tensor) -> None:
        self.source = source
        self.runs = 0

    def __call__(self) -> Computed:
        self.runs += 1
        return Computed(2 * self.source, (self.source.shape,))


def meet(graphs: Graphs, key: Any, compute: Doubled, times: int = 1) -> list[list[float]]:
    return [graphs.computed(key, compute).values.tolist() for _ in range(times)]


def test_a_kind_of_step_is_captured_after_some_meetings() -> None:
    device, compute = Device(), Doubled(torch.tensor([1.0, 3.0]))
    graphs = Graphs(CPU, device)
    assert meet(graphs, "kind", compute, MEETINGS) == [[2.0, 6.0]] * MEETINGS
    assert not device.graphs
    assert meet(graphs, "other", compute) == [[2.0, 6.0]]
    assert meet(graphs, "kind", compute) == [[2.0, 6.0]]
    assert (len(graphs), len(device.graphs)) == (0, 1)
    assert device.graphs[0].replays == 1  # to be compared
    runs = compute.runs
    compute.source[0] = 5.0
    untouched = Doubled(torch.zeros(2))
    assert meet(graphs, "kind", untouched) == [[10.0, 6.0]]
    assert untouched.runs == 0
    assert compute.runs == runs + 1  # by the replay
    assert len(graphs) == 1
    assert graphs.missing is None


def test_a_graph_is_not_used_before_it_is_known_to_be_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, compute = Device(), Doubled(torch.ones(1))
    graphs, known = Graphs(CPU, device), False
    monkeypatch.setattr(Copy, "done", property(lambda copy: known))
    assert meet(graphs, "kind", compute, MEETINGS + 3) == [[2.0]] * (MEETINGS + 3)
    assert len(device.graphs) == 1  # captured once
    assert (len(graphs), device.graphs[0].replays) == (0, 1)
    known = True
    assert meet(graphs, "kind", Doubled(torch.zeros(1)), 2) == [[2.0]] * 2
    assert (len(graphs), device.graphs[0].replays) == (1, 3)


def test_the_kinds_met_last_are_remembered() -> None:
    device, compute = Device(), Doubled(torch.ones(1))
    graphs = Graphs(CPU, device)
    meet(graphs, "old", compute, MEETINGS + 1)
    meet(graphs, "used", compute, MEETINGS + 2)
    for n in range(LIMIT - 1):
        meet(graphs, n, compute)
        meet(graphs, "used", compute)
    assert len(graphs) == 1
    replays = device.graphs[1].replays
    meet(graphs, "used", compute)
    assert device.graphs[1].replays == replays + 1
    meet(graphs, "old", compute, MEETINGS)  # as if it were new
    assert len(device.graphs) == 2
    for _ in range(MEETINGS + 1):  # more kinds in turn than are remembered: none is captured
        for n in range(LIMIT + 1):
            meet(graphs, n, compute)
    assert len(device.graphs) == 2


def test_dropped_graphs_are_not_replayed() -> None:
    device, compute = Device(), Doubled(torch.ones(1))
    graphs = Graphs(CPU, device)
    meet(graphs, "kind", compute, MEETINGS + 2)
    assert len(graphs) == 1
    graphs.drop()
    assert len(graphs) == 0
    meet(graphs, "kind", compute, MEETINGS)
    assert device.graphs[0].replays == 2
    meet(graphs, "kind", compute, 2)
    assert [each.replays for each in device.graphs] == [2, 2]


def wrong(compute: graph_module.Compute) -> tuple[Recorded, Computed]:
    found = Recorded(compute)
    return found, Computed(found.result.values + 1, found.result.shapes)


def refused(compute: graph_module.Compute) -> tuple[Recorded, Computed]:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("capture", "said"),
    [(wrong, "differs"), (refused, "RuntimeError: operation not permitted")],
)
def test_a_failure_ends_the_use_of_graphs_and_loses_nothing(
    capture: graph_module.Capture, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    compute = Doubled(torch.tensor([1.0]))
    graphs = Graphs(CPU, capture)
    with caplog.at_level(logging.WARNING):
        assert meet(graphs, "kind", compute, 3 * MEETINGS) == [[2.0]] * 3 * MEETINGS
        assert meet(graphs, "other", compute, 3 * MEETINGS) == [[2.0]] * 3 * MEETINGS
    assert graphs.missing is not None
    assert said in graphs.missing
    assert len(graphs) == 0
    assert [said in record.getMessage() for record in caplog.records] == [True]


def test_results_that_are_no_numbers_agree_where_the_plain_ones_are_none() -> None:
    compute = Doubled(torch.tensor([torch.nan, -torch.inf, 1.0]))
    graphs = Graphs(CPU, Device())
    meet(graphs, "kind", compute, MEETINGS + 2)
    assert graphs.missing is None
    assert len(graphs) == 1


def test_a_key_says_where_and_how_tensors_lie() -> None:
    values = torch.zeros(4, 4)
    key = key_of((1, 2), [values])
    values += 1
    assert key_of((1, 2), [values.view(4, 4)]) == key
    assert hash(key_of((1, 2), [values])) == hash(key)
    others = (values[:2], values.T, values[1:], values.view(torch.int32), torch.zeros(4, 4))
    assert all(key_of((1, 2), [each]) != key for each in others)
    assert key_of((1, 3), [values]) != key
    assert key_of((1, 2), [values, values]) != key


@pytest.mark.parametrize(
    ("device", "ranks", "eager", "used"),
    [
        ("cuda", 1, False, True),
        ("cuda", 2, False, False),
        ("cuda", 1, True, False),
        ("cpu", 1, False, False),
    ],
)
def test_where_graphs_are_used(device: str, ranks: int, eager: bool, used: bool) -> None:
    runner = SimpleNamespace(
        device=torch.device(device),
        vllm_config=SimpleNamespace(
            parallel_config=SimpleNamespace(tensor_parallel_size=ranks),
            model_config=SimpleNamespace(enforce_eager=eager),
        ),
    )
    assert (graphs_for(runner) is not None) is used


def test_a_capture_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the calls, on stand-ins: what CUDA does then is up to the benchmark."""
    said: list[Any] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            said.append(("wait", str(self.name), str(other.name)))

        def __enter__(self) -> None:
            said.append("enter")

        def __exit__(self, *_: object) -> None:
            said.append("leave")

    class CUDAGraph:
        def capture_begin(self, **options: Any) -> None:
            said.append(("begin", options["pool"], options["capture_error_mode"]))

        def capture_end(self) -> None:
            said.append("end")

        def pool(self) -> str:
            return "its pool"

    stands = {"Stream": Stream, "CUDAGraph": CUDAGraph, "stream": lambda stream: stream}
    for name, stand in stands.items():
        monkeypatch.setattr(torch.cuda, name, stand)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    capture = CudaCapture(torch.device("cuda:0"))
    compute = Doubled(torch.ones(1))
    for pool in (None, "its pool"):
        said.clear()
        capture(compute)
        assert said == [
            ("wait", "cuda:0", "main"), "enter", ("begin", pool, "thread_local"), "end", "leave",
            ("wait", "main", "cuda:0"),
        ]  # fmt: skip
    assert compute.runs == 2

    def fails() -> Computed:
        raise ValueError("launch")

    said.clear()
    with pytest.raises(ValueError, match="launch"):
        capture(fails)
    assert said[-2:] == ["end", "leave"]  # the stream is free again


@pytest.fixture
def runner() -> Iterator[Standin]:
    runner = Standin(SHAPE, torch.device("cpu"))
    with without_vllm(runner):
        yield runner


@torch.inference_mode()
def test_replayed_steps_read_what_plain_ones_do(runner: Standin) -> None:
    device, names = Device(), [f"request {n}" for n in range(4)]
    graphs = Graphs(CPU, device)
    plain, graphed = armed(runner, names, None), armed(runner, names, graphs)

    def same(*batch: str) -> None:
        runner.forward(batch)
        expected, *_ = runner.read(plain)
        found, *_ = runner.read(graphed)
        assert found.image_tokens == expected.image_tokens
        assert deviation(found, expected) < 1e-5

    for _ in range(MEETINGS + 3):
        same(*names)
    assert [each.replays for each in device.graphs] == [1 + 2]
    same(*names[::-1])  # the images lie elsewhere, in the same table
    assert [each.replays for each in device.graphs] == [1 + 3]
    same(*names[:3])
    assert [each.replays for each in device.graphs] == [1 + 3]
    assert graphs.missing is None
    before, plan = len(graphs), {"matrix": None, "columns": 0, "attention": False}
    plain.install(plan)
    graphed.install(plan)
    assert (before, len(graphs)) == (1, 0)


@torch.inference_mode()
def test_steps_that_are_never_captured(runner: Standin) -> None:
    names = [f"request {n}" for n in range(FEW + 1)]
    graphs = Graphs(CPU, Device())
    reader = armed(runner, names, graphs)

    def kinds(*batch: str) -> int:
        for _ in range(MEETINGS + 2):
            runner.forward(batch)
            runner.read(reader)
        found = len(graphs)
        graphs.drop()
        return found

    assert kinds(*names) == 0  # too many
    assert kinds(*names[:FEW]) == 1
    reader.attention.check(True)
    assert kinds("request 0") == 0
    reader.attention.check(False)
    assert kinds("request 0") == 1
