"""The model runner's part: after each step, one row per request, copied to the host in one piece.

It keeps no state of a request but where its image lies, so preemption, batches that change and
slots that are used again cannot mix requests up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

from service.engines.vllm_plugin import compat, images, limits
from service.engines.vllm_plugin.attention import Attention
from service.engines.vllm_plugin.copies import Copies
from service.engines.vllm_plugin.graph import FEW, Graphs, graphs_for, key_of
from service.engines.vllm_plugin.prefix import WholePrompts
from service.engines.vllm_plugin.record import KEY, StepRows
from service.engines.vllm_plugin.rows import Computed, Rows
from service.engines.vllm_plugin.scores import logprobs

WIDTHS = 64
"""Columns for image tokens come in multiples of it: fewer kinds of steps, so fewer graphs."""
Pending = Callable[[], StepRows]
"""Waits for the copy of a step's rows to the host."""


@dataclass(frozen=True, slots=True, eq=False)
class Seats:
    """Who sits where in a batch; the next steps' batches are mostly the same.

    Args:
        requests: ids, one per row.
        rows: row of each of them that asked for a record.
        image_tokens: per row, how many are read.
        widest: columns for them.
        table: first image position and number of image tokens per row, (2, rows), on the device.
    """

    requests: list[str]
    rows: Mapping[str, int]
    image_tokens: list[int]
    widest: int
    table: Tensor


class Reader:
    """Reads the steps of one model runner.

    Args:
        runner: its model is loaded, and not compiled yet.
        layers: hidden-state indices to arm.
        attention_layers: decoder layers (1-based) to arm.
        whole_prompts: prompts attend both ways as a whole.
        graphs: of decode steps with few requests; ``None`` for none.
    """

    def __init__(
        self,
        runner: Any,
        layers: tuple[int, ...],
        attention_layers: tuple[int, ...],
        whole_prompts: bool = False,
        graphs: Graphs | None = None,
    ) -> None:
        self.layers = tuple(sorted(set(layers)))
        self._whole_prompts = WholePrompts(runner) if whole_prompts else None
        self.attention = Attention(runner, attention_layers, whole_prompts)
        self.graphs = graphs
        self._rows = Rows(runner, self.layers, self.attention)
        self._device: torch.device = runner.device
        self._copies = Copies(self._device)
        most = compat.need(runner, "max_num_reqs")
        self._table = torch.zeros(2, most, dtype=torch.int32, device=self._device)
        """Of the seats; graphs read it where it lies."""
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
        self._rows.install(plan)
        if self.graphs is not None:
            self.graphs.drop()

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
        later = compat.async_output_class()
        if isinstance(output, later):
            return _with_rows(later)(output, pending)
        setattr(output, KEY, pending())
        return output

    def _read(self, step: compat.Step, logits: Tensor | None) -> Pending:
        """Compute the rows and start their copy; the function returned waits for it."""
        seats = self._seated(step)
        computed = self._computed(step, logits, seats)
        copy, shapes = self._copies.start(computed.values), computed.shapes

        def wait() -> StepRows:
            flat, arrays, begin = copy.wait(), [], 0
            for shape in shapes:
                end = begin + shape.numel()
                arrays.append(flat[begin:end].reshape(shape))
                begin = end
            states, sums, maps = arrays
            likeliest = logprobs(sums).tolist() if sums.shape[1] else []
            read = seats.image_tokens if maps.shape[2] else [0] * len(seats.requests)
            return StepRows(seats.rows, states.swapaxes(0, 1), likeliest, sums, maps, read)

        return wait

    def _computed(self, step: compat.Step, logits: Tensor | None, seats: Seats) -> Computed:
        def compute() -> Computed:
            return self._rows.of(step, logits, seats.table, seats.widest)

        graphs, count = self.graphs, len(step.requests)
        decodes = step.rows is None and count <= FEW
        if graphs is None or logits is None or not decodes or self.attention.checking:
            return compute()
        read = self._rows.read(step, logits, seats.widest)
        return graphs.computed(key_of((count, seats.widest), read), compute)

    def _seated(self, step: compat.Step) -> Seats:
        if self._seats is None or self._seats.requests != step.requests:
            places = [self._places.get(name, (0, 0)) for name in step.requests]
            if not self._attends:
                places = [(0, 0)] * len(places)
            tokens = [each for _, each in places]
            self._seats = Seats(
                step.requests,
                {name: row for row, name in enumerate(step.requests) if name in self._places},
                tokens,
                -(-max(tokens) // WIDTHS) * WIDTHS,
                self._tabled(places),
            )
        return self._seats

    def _tabled(self, places: list[tuple[int, int]]) -> Tensor:
        """Fill the table, in the order of the stream: steps before may not have read it yet."""
        host = torch.zeros(self._table.shape, dtype=torch.int32)
        host[:, : len(places)] = torch.tensor(places, dtype=torch.int32).T
        if self._device.type == "cuda":
            host = host.pin_memory()
        self._table.copy_(host, non_blocking=True)
        return self._table[:, : len(places)]


@cache
def _with_rows(later: Any) -> Any:
    """Class of an output that is still being copied, with rows that are as well."""

    class WithRows(later):  # type: ignore[misc]
        def __init__(self, output: Any, pending: Callable[[], StepRows]) -> None:
            self._output = output
            self._pending = pending

        def get_output(self) -> Any:
            result = self._output.get_output()
            setattr(result, KEY, self._pending())
            return result

        def get_kv_connector_output(self) -> Any:
            """Since 0.33; vLLM asks for it where ``get_output`` has failed."""
            return self._output.get_kv_connector_output()

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
                graphs_for(self),
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
