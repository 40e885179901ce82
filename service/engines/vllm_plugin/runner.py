"""The model runner's part: after each step, one row per request, copied to the host in one piece.

It keeps no state of a request but where its image lies, so preemption, batches that change and
slots that are used again cannot mix requests up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.engines.vllm_plugin import compat, images, limits
from service.engines.vllm_plugin.attention import Attention
from service.engines.vllm_plugin.hidden import HiddenStates
from service.engines.vllm_plugin.prefix import WholePrompts
from service.engines.vllm_plugin.record import KEY, StepRows
from service.engines.vllm_plugin.scores import logprobs, summed

SHARES = 16
"""Parts of the hidden size that are projected apart: a product of few rows and columns over
thousands of entries keeps a GPU waiting for one long loop."""
Pending = Callable[[], StepRows]
"""Waits for the copy of a step's rows to the host."""


@dataclass(frozen=True, slots=True, eq=False)
class Seats:
    """Who sits where in a batch; the next steps' batches are mostly the same.

    Args:
        requests: ids, one per row.
        rows: row of each of them that asked for a record.
        image_tokens: per row, how many are read.
        table: first image position and number of image tokens per row, (2, rows), on the device.
    """

    requests: list[str]
    rows: Mapping[str, int]
    image_tokens: list[int]
    table: Tensor


class Reader:
    """Reads the steps of one model runner.

    Args:
        runner: its model is loaded, and not compiled yet.
        layers: hidden-state indices to arm.
        attention_layers: decoder layers (1-based) to arm.
        whole_prompts: prompts attend both ways as a whole.
    """

    def __init__(
        self,
        runner: Any,
        layers: tuple[int, ...],
        attention_layers: tuple[int, ...],
        whole_prompts: bool = False,
    ) -> None:
        self.layers = tuple(sorted(set(layers)))
        self._whole_prompts = WholePrompts(runner) if whole_prompts else None
        self.attention = Attention(runner, attention_layers, whole_prompts)
        self._hidden = HiddenStates(runner, self.layers)
        self._device: torch.device = runner.device
        self._width: int = runner.model_config.get_hidden_size()
        self._matrix: Tensor | None = None
        """(layers x shares, hidden / shares, columns), or ``None`` for whole hidden states."""
        self._attends = False
        self._places: dict[str, tuple[int, int]] = {}
        self.preempted = 0
        """How often a request lost its place in the cache and was recomputed."""
        self._seats: Seats | None = None
        self._step: compat.Step | None = None
        """Waits for its logits (V2)."""
        self._pending: Pending | None = None

    def install(self, plan: Mapping[str, Any]) -> None:
        """What is computed from the next step on.

        Args:
            plan: ``matrix`` float32 bytes of (layers, hidden, columns) or ``None`` for whole
                hidden states, ``columns``, and ``attention``: whether it is read.
        """
        self._attends = bool(plan["attention"])
        self._seats = None
        self._matrix = None
        if plan["matrix"] is not None:
            shares = math.gcd(SHARES, self._width)
            shape = (len(self.layers) * shares, self._width // shares, plan["columns"])
            matrix = np.frombuffer(plan["matrix"], np.float32).reshape(shape)
            self._matrix = torch.from_numpy(matrix.copy()).to(self._device)

    def scheduled(self, scheduler_output: Any) -> None:
        """Learn where the images of new requests lie, forget finished ones."""
        self.preempted += len(getattr(scheduler_output, "preempted_req_ids", None) or ())
        for name in scheduler_output.finished_req_ids:
            self._places.pop(name, None)
        if self._whole_prompts is not None:
            self._whole_prompts.scheduled(scheduler_output.scheduled_new_reqs)
        for request in scheduler_output.scheduled_new_reqs:
            wish = compat.asked(request.sampling_params)
            if wish is not None:
                run = compat.image_run(request.mm_features) if wish["attention"] else (0, 0)
                self._places[request.req_id] = run

    def watch_logits(self, model: Any) -> None:
        """Read a step as soon as it has computed its logits, while it samples (V2)."""
        original = model.compute_logits

        def compute_logits(*args: Any, **options: Any) -> Any:
            logits = original(*args, **options)
            if self._step is not None:
                step, self._step = self._step, None
                self._pending = self._read(step, logits)
            return logits

        model.compute_logits = compute_logits

    def sample(self, runner: Any, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """``sample_tokens`` with the step's rows on its output."""
        step = compat.step_of(runner)
        if step is None or not any(name in self._places for name in step.requests):
            return original(runner, *args, **options)
        # Before the sampling: the copy of the rows then ends before that of the tokens, which
        # vLLM waits for anyway.
        if step.logits is not None:
            self._pending = self._read(step, step.logits)
        else:
            self._step = step
        output = original(runner, *args, **options)
        pending, self._pending, self._step = self._pending, None, None
        if output is None or pending is None:
            return output
        if isinstance(output, compat.async_output_class()):
            return _with_rows()(output, pending)
        setattr(output, KEY, pending())
        return output

    def _read(self, step: compat.Step, logits: Tensor | None) -> Pending:
        """Compute the rows and start their copy; the function returned waits for it."""
        seats = self._seated(step)
        count = len(step.requests)
        hidden = self._project(step)
        if logits is None:  # a rank of tensor parallelism that does not sample; its rows are unused
            scores = torch.empty(count, 0, 4, device=self._device)
        else:
            scores = summed(logits[:count])
        widest = max(seats.image_tokens)
        attention = self.attention.rows(step, seats.table, widest)
        parts = (hidden, scores, attention)
        shapes = [part.shape for part in parts]
        host = self._fetched(torch.cat([part.reshape(-1) for part in parts]))

        def wait() -> StepRows:
            flat, arrays, begin = host(), [], 0
            for shape in shapes:
                end = begin + shape.numel()
                arrays.append(flat[begin:end].reshape(shape))
                begin = end
            states, sums, maps = arrays
            likeliest = logprobs(sums).tolist() if sums.shape[1] else []
            read = seats.image_tokens if maps.shape[2] else [0] * count
            return StepRows(seats.rows, states.swapaxes(0, 1), likeliest, sums, maps, read)

        return wait

    def _seated(self, step: compat.Step) -> Seats:
        if self._seats is None or self._seats.requests != step.requests:
            places = [self._places.get(name, (0, 0)) for name in step.requests]
            if not self._attends:
                places = [(0, 0)] * len(places)
            self._seats = Seats(
                step.requests,
                {name: row for row, name in enumerate(step.requests) if name in self._places},
                [tokens for _, tokens in places],
                self._sent(torch.tensor(places, dtype=torch.int32).T.contiguous()),
            )
        return self._seats

    def _project(self, step: compat.Step) -> Tensor:
        """(layers, rows, columns), float32, dense."""
        count = len(step.requests)
        states = self._hidden.at(step)
        if not states or (self._matrix is not None and not self._matrix.shape[2]):
            return torch.empty(len(states), count, 0, device=self._device)
        if step.rows is None:
            picked = torch.stack([state[:count] for state in states])
        else:
            picked = torch.stack([state.index_select(0, step.rows) for state in states])
        if self._matrix is None:
            return picked.float()
        apart, width, columns = self._matrix.shape
        layers = len(states)
        shared = picked.view(layers, count, apart // layers, width).transpose(1, 2)
        shared = shared.to(torch.float32, memory_format=torch.contiguous_format)
        product = torch.bmm(shared.reshape(apart, count, width), self._matrix)
        return product.view(layers, -1, count, columns).sum(1)

    def _sent(self, table: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return table
        return table.pin_memory().to(self._device, non_blocking=True)

    def _fetched(self, values: Tensor) -> Callable[[], np.ndarray[Any, Any]]:
        """Start the copy to the host; the function returned waits for it."""
        if self._device.type != "cuda":
            ready = values.numpy()
            return lambda: ready
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        copied.record()

        def wait() -> np.ndarray[Any, Any]:
            copied.synchronize()
            return host.numpy()

        return wait


@cache
def _with_rows() -> Any:
    """Class of an output that is still being copied, with rows that are as well."""

    class WithRows(compat.async_output_class()):  # type: ignore[misc]
        def __init__(self, output: Any, pending: Callable[[], StepRows]) -> None:
            self._output = output
            self._pending = pending

        def get_output(self) -> Any:
            result = self._output.get_output()
            setattr(result, KEY, self._pending())
            return result

    return WithRows


def install() -> None:
    """Wrap the model runners of this vLLM."""
    for cls in compat.runner_classes():
        for name, wrapper in (
            ("load_model", _load_model),
            ("execute_model", _execute_model),
            ("sample_tokens", _sample_tokens),
        ):
            original = cls.__dict__.get(name)
            if original is not None and not getattr(original, KEY, False):
                wrapped = wrapper(original)
                setattr(wrapped, KEY, True)
                setattr(cls, name, wrapped)


def _load_model(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def load_model(self: Any, *args: Any, **options: Any) -> Any:
        loaded = original(self, *args, **options)
        config = compat.gate_config(self.vllm_config)
        if config is not None and not hasattr(self, KEY):
            limits.refuse(self.vllm_config)
            images.unscaled(self.get_model(), self.model_config.get_hidden_size())
            reader = Reader(
                self,
                tuple(config["layers"]),
                tuple(config["attention_layers"]),
                config["whole_prompts"],
            )
            if compat.is_v2(self):
                reader.watch_logits(self.get_model())
            setattr(self, KEY, reader)
        return loaded

    return load_model


def _execute_model(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute_model(self: Any, scheduler_output: Any, *args: Any, **options: Any) -> Any:
        reader: Reader | None = getattr(self, KEY, None)
        if reader is not None:
            reader.scheduled(scheduler_output)
        return original(self, scheduler_output, *args, **options)

    return execute_model


def _sample_tokens(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def sample_tokens(self: Any, *args: Any, **options: Any) -> Any:
        reader: Reader | None = getattr(self, KEY, None)
        if reader is None:
            return original(self, *args, **options)
        with torch.inference_mode():
            return reader.sample(self, original, *args, **options)

    return sample_tokens
