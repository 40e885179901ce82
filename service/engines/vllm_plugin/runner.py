"""The model runner's part: after each step, one row per request, copied to the host in one piece.

It keeps no state of a request but where its image lies, so preemption, batches that change and
slots that are used again cannot mix requests up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.engines.vllm_plugin import compat, limits
from service.engines.vllm_plugin.attention import Attention
from service.engines.vllm_plugin.hidden import HiddenStates
from service.engines.vllm_plugin.prefix import WholePrompts
from service.engines.vllm_plugin.record import KEY, StepRows
from service.engines.vllm_plugin.scores import token_scores


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
        self._attends = False
        self._places: dict[str, tuple[int, int]] = {}
        self.preempted = 0
        """How often a request lost its place in the cache and was recomputed."""
        self._scores: Tensor | None = torch.empty(0)
        self._ends_prompt = True

    def install(self, plan: Mapping[str, Any]) -> None:
        """What is computed from the next step on.

        Args:
            plan: ``matrix`` float32 bytes of (layers, hidden, columns) or ``None`` for whole
                hidden states, ``columns``, and ``attention``: whether it is read.
        """
        self._attends = bool(plan["attention"])
        self._matrix = None
        if plan["matrix"] is not None:
            shape = (len(self.layers), self._width, plan["columns"])
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
        """Keep the scores of the logits that a step computes while it samples (V2)."""
        original = model.compute_logits

        def compute_logits(*args: Any, **options: Any) -> Any:
            logits = original(*args, **options)
            if self._scores is None and logits is not None:
                self._scores = token_scores(logits, self._ends_prompt)
            return logits

        model.compute_logits = compute_logits

    def sample(self, runner: Any, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """``sample_tokens`` with the step's rows on its output."""
        step = compat.step_of(runner)
        if step is None or not any(name in self._places for name in step.requests):
            self._scores = torch.empty(0)  # not ours: its logits are of no interest
            return original(runner, *args, **options)
        self._ends_prompt = step.ends_prompt
        self._scores = None
        if step.logits is not None:
            self._scores = token_scores(step.logits, step.ends_prompt)
        output = original(runner, *args, **options)
        if output is None:
            return output
        pending = self._read(step, self._scores)
        if isinstance(output, compat.async_output_class()):
            return _with_rows()(output, pending)
        setattr(output, KEY, pending())
        return output

    def _read(self, step: compat.Step, scores: Tensor | None) -> Callable[[], StepRows]:
        """Compute the rows and start their copy; the function returned waits for it."""
        rows = len(step.requests)
        if scores is None:  # a rank of tensor parallelism that does not sample; its rows are unused
            scores = torch.full((rows, 3), torch.nan, device=self._device)
        hidden = self._project(step)
        places = [self._places.get(name, (0, 0)) for name in step.requests]
        if not self._attends:
            places = [(0, 0)] * rows
        widest = max(count for _, count in places)
        table = torch.tensor(places, dtype=torch.int32).T.contiguous()
        attention = self.attention.rows(step, self._sent(table), widest)
        parts = [hidden, scores[:rows], attention]
        host = self._fetched(torch.cat([part.reshape(-1) for part in parts]))
        shapes = [tuple(part.shape) for part in parts]

        def wait() -> StepRows:
            flat = host()
            cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
            whole = [
                part.reshape(shape)
                for part, shape in zip(np.split(flat, cuts), shapes, strict=True)
            ]
            counts = [min(count, whole[2].shape[2]) for _, count in places]
            return StepRows(step.requests, whole[0], whole[1], whole[2], counts)

        return wait

    def _project(self, step: compat.Step) -> Tensor:
        """(rows, layers, columns), float32."""
        states = self._hidden.at(step)
        if not states:
            return torch.zeros(len(step.requests), 0, 0, device=self._device)
        picked = torch.stack([state.index_select(0, step.rows) for state in states]).float()
        if self._matrix is not None:
            picked = torch.bmm(picked, self._matrix)
        return picked.transpose(0, 1)

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
