"""The plugin's part of a model runner, on stand-ins with the V2 runner's attributes (vLLM 0.26).

The V1 runner's is tested on vLLM itself, by ``make test-vllm``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from probes.types import Readout
from service.engines.vllm.plan import Plan
from service.engines.vllm_plugin import compat, limits
from service.engines.vllm_plugin.record import KEY, StepRows
from service.engines.vllm_plugin.runner import Reader
from service.engines.vllm_plugin.scores import entropy_and_margin, logprobs, summed

HIDDEN = 4
NUMBERS = torch.Generator().manual_seed(0)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in range(3))
        self.asked: tuple[int, ...] = ()

    def _set_aux_hidden_state_layers(self, layers: tuple[int, ...]) -> None:
        self.asked = layers


class LlavaForConditionalGeneration(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = SimpleNamespace(model=Decoder())

    def get_language_model(self) -> Any:
        return self.decoder

    def compute_logits(self, states: torch.Tensor) -> torch.Tensor:
        return states @ torch.arange(HIDDEN * 6.0).view(HIDDEN, 6)


class Runner:
    """A V2 runner between ``execute_model`` and ``sample_tokens``."""

    use_aux_hidden_state_outputs = False
    max_num_tokens = 32
    max_num_reqs = 8
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.model = LlavaForConditionalGeneration()
        self.model_config = SimpleNamespace(
            get_hidden_size=lambda: HIDDEN, dtype=torch.float32, use_mla=False
        )
        self.execute_model_state: Any = None

    def get_model(self) -> nn.Module:
        return self.model


Runner.__module__ = compat.V2


class Async(ABC):
    """vLLM's AsyncModelRunnerOutput, 0.33."""

    @abstractmethod
    def get_output(self) -> Any: ...

    @abstractmethod
    def get_kv_connector_output(self) -> Any: ...


class Later(Async):
    """Stands for a model runner's own."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def get_output(self) -> Any:
        return self._result

    def get_kv_connector_output(self) -> str:
        return "of the step"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> tuple[Runner, Reader]:
    monkeypatch.setattr(compat, "async_output_class", lambda: Async)
    runner = Runner()
    reader = Reader(runner, (3, 1), ())
    reader.watch_logits(runner.model)
    return runner, reader


def request(name: str, wish: bool = True) -> Any:
    extra = {KEY: {"attention": False}} if wish else None
    return SimpleNamespace(
        req_id=name, sampling_params=SimpleNamespace(extra_args=extra), mm_features=[]
    )


def schedule(reader: Reader, *requests: Any, finished: tuple[str, ...] = ()) -> None:
    reader.scheduled(
        SimpleNamespace(
            scheduled_new_reqs=list(requests),
            finished_req_ids=set(finished),
            preempted_req_ids={"9"},
        )
    )


def forward(runner: Runner, names: list[str], lengths: list[int]) -> Any:
    """The state after a step of so many tokens per request, padded as a CUDA graph would."""
    starts = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    padded = torch.cat([starts, starts[-1:].expand(3)])
    total = sum(lengths) + 2
    states = [torch.randn(total, HIDDEN, generator=NUMBERS) for _ in range(2)]
    batch = SimpleNamespace(
        req_ids=names,
        num_reqs=len(names),
        num_tokens=sum(lengths),
        query_start_loc=padded,
        seq_lens=torch.tensor([*lengths, 0, 0, 0], dtype=torch.int32),
    )
    runner.execute_model_state = SimpleNamespace(
        input_batch=batch,
        attn_metadata={},
        hidden_states=states[0],
        aux_hidden_states=states,
    )
    return states, padded[1 : len(names) + 1].long() - 1


def sampler(runner: Runner, output: Any) -> Callable[..., Any]:
    """``sample_tokens``: takes the state away, computes the logits of the last positions."""

    def sample_tokens(self: Runner, grammar: Any) -> Any:
        state, self.execute_model_state = self.execute_model_state, None
        rows = state.input_batch.query_start_loc[1 : state.input_batch.num_reqs + 1].long() - 1
        self.model.compute_logits(state.hidden_states[rows])
        self.model.compute_logits(state.hidden_states)  # of the prompt: not to be taken
        return output

    return sample_tokens


def test_rows_are_those_of_each_requests_last_position(reader: tuple[Runner, Reader]) -> None:
    runner, read = reader
    assert read.layers == (1, 3)
    assert runner.model.decoder.model.asked == (1, 3)
    assert runner.use_aux_hidden_state_outputs
    plan = Plan((Readout((1, 3), ("prompt_last",), None),), (1, 3), HIDDEN)
    read.install(plan.message())
    schedule(read, request("a"), request("b"), request("c", wish=False))
    states, rows = forward(runner, ["b", "c", "a"], [1, 4, 7])
    output = Later(SimpleNamespace())
    sampled = read.sample(runner, sampler(runner, output), None)
    assert isinstance(sampled, Async)
    assert sampled.get_kv_connector_output() == "of the step"
    found: StepRows = getattr(sampled.get_output(), KEY)
    assert found.rows == {"b": 0, "a": 2}
    expected = torch.stack([state[rows] for state in states], 1)
    np.testing.assert_allclose(found.hidden, expected, rtol=1e-6)
    logits = LlavaForConditionalGeneration().compute_logits(states[0][rows])
    assert_scores(found.logits, logits)
    np.testing.assert_allclose(found.logprobs, expected_scores(logits)[:, 0], atol=1e-5)


def test_projections_and_later_steps(reader: tuple[Runner, Reader]) -> None:
    runner, read = reader
    matrix = np.random.default_rng(0).normal(size=(HIDDEN, 2))
    plan = Plan((Readout((3,), ("prompt_last",), {3: matrix}),), (1, 3), HIDDEN)
    read.install(plan.message())
    schedule(read, request("a"), request("b"))
    states, rows = forward(runner, ["b", "a"], [1, 1])
    result = SimpleNamespace()
    assert read.sample(runner, sampler(runner, result), None) is result
    found: StepRows = getattr(result, KEY)
    np.testing.assert_allclose(found.hidden[:, 1], states[1][rows].numpy() @ matrix, rtol=1e-4)
    assert (found.hidden[:, 0] == 0).all()
    before = found.rows
    forward(runner, ["b", "a"], [1, 1])
    read.sample(runner, sampler(runner, result), None)
    assert getattr(result, KEY).rows is before  # the same batch, so nothing is built anew
    forward(runner, ["a"], [1])
    read.sample(runner, sampler(runner, result), None)
    assert getattr(result, KEY).rows == {"a": 0}


def test_a_step_without_logits_leaves_nothing_behind(reader: tuple[Runner, Reader]) -> None:
    runner, read = reader
    schedule(read, request("a"))
    forward(runner, ["a"], [2])
    result = SimpleNamespace()
    assert read.sample(runner, lambda self, grammar: result, None) is result
    assert not hasattr(result, KEY)
    runner.model.compute_logits(torch.ones(1, HIDDEN))  # a trial run of the model: not a step
    runner.execute_model_state = None
    assert read.sample(runner, lambda self, grammar: result, None) is result
    assert not hasattr(result, KEY)


def test_a_plan_that_reads_no_states(reader: tuple[Runner, Reader]) -> None:
    runner, read = reader
    read.install(Plan((), (1, 3), HIDDEN).message())
    schedule(read, request("a"))
    states, rows = forward(runner, ["a"], [2])
    result = SimpleNamespace()
    read.sample(runner, sampler(runner, result), None)
    found: StepRows = getattr(result, KEY)
    assert found.hidden.shape == (1, 2, 0)
    assert_scores(found.logits, runner.model.compute_logits(states[0][rows]))


def test_steps_without_our_requests_are_left_alone(reader: tuple[Runner, Reader]) -> None:
    runner, read = reader
    schedule(read, request("a"), request("b", wish=False))
    schedule(read, finished=("a",))
    assert read.preempted == 2
    forward(runner, ["b"], [3])
    result = SimpleNamespace()
    assert read.sample(runner, sampler(runner, result), None) is result
    assert not hasattr(result, KEY)
    runner.execute_model_state = None
    assert read.sample(runner, lambda self, grammar: None, None) is None


def expected_scores(logits: torch.Tensor) -> torch.Tensor:
    probabilities = logits.softmax(-1)
    best = logits.topk(2).values
    entropy = torch.special.entr(probabilities).sum(-1)
    return torch.stack([probabilities.amax(-1).log(), entropy, best[:, 0] - best[:, 1]], -1)


def assert_scores(parts: Any, logits: torch.Tensor) -> None:
    parts = np.asarray(parts)
    expected = expected_scores(logits).numpy()
    np.testing.assert_allclose(logprobs(parts), expected[:, 0], rtol=1e-4, atol=1e-5)
    found = [entropy_and_margin(row) for row in parts]
    np.testing.assert_allclose(found, expected[:, 1:], rtol=1e-4, atol=1e-5)


def test_token_scores() -> None:
    logits = torch.tensor([[2.0, 0.5, -torch.inf], [1.0, 1.0, 1.0], [0.0, 30.0, -30.0]])
    assert_scores(summed(logits), logits)


def test_token_scores_of_a_vocabulary_in_parts() -> None:
    logits = torch.randn(5, 60, generator=NUMBERS) * 4
    logits[0, :20] = -torch.inf  # a part that is ruled out
    logits[1, [3, 50]] = 20.0  # a tie across parts
    logits[2, [3, 4]] = 20.0  # and within one
    parts = torch.cat([summed(part) for part in logits.split(20, 1)], 1)
    parts[0, 0, 2:] = 0.0  # as the kernel leaves it: nothing to sum up
    assert_scores(parts, logits)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size"),
        ({"decode_context_parallel_size": 2}, "decode_context_parallel_size"),
        ({"prefill_context_parallel_size": 2}, "prefill_context_parallel_size"),
        ({"use_ubatching": True}, "enable_dbo"),
        ({"speculative": object()}, "speculative"),
        ({"mla": True}, "MLA"),
    ],
)
def test_ways_of_running_that_cannot_be_read_are_refused(change: dict[str, Any], said: str) -> None:
    config = SimpleNamespace(
        parallel_config=SimpleNamespace(
            pipeline_parallel_size=change.get("pipeline_parallel_size", 1),
            decode_context_parallel_size=change.get("decode_context_parallel_size", 1),
            prefill_context_parallel_size=change.get("prefill_context_parallel_size", 1),
            use_ubatching=change.get("use_ubatching", False),
        ),
        speculative_config=change.get("speculative"),
        model_config=SimpleNamespace(use_mla=change.get("mla", False)),
    )
    with pytest.raises(compat.Incompatible, match=said):
        limits.refuse(config)


def test_the_image_lies_where_its_embeddings_do() -> None:
    def place(offset: int, length: int, mask: list[bool] | None) -> list[Any]:
        inside = None if mask is None else torch.tensor(mask)
        where = SimpleNamespace(offset=offset, length=length, is_embed=inside)
        return [SimpleNamespace(mm_position=where)]

    assert compat.image_run(place(5, 64, None)) == (5, 64)
    assert compat.image_run(place(0, 4, [True, True, True, False])) == (0, 3)
    assert compat.image_run(place(0, 4, [True, False, True, False])) == (0, 0)
    assert compat.image_run([]) == (0, 0)
