"""A step's rows as they are computed on the device: hidden states, scores, attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.engines.vllm_plugin import compat
from service.engines.vllm_plugin.attention import Attention
from service.engines.vllm_plugin.hidden import HiddenStates
from service.engines.vllm_plugin.scores import summed


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """The rows of a step, on the device.

    Args:
        values: of all parts, one after the other, float32.
        shapes: of hidden states (layers, rows, columns), scores (rows, parts, 4) and attention
            (rows, attention layers, image tokens).
    """

    values: Tensor
    shapes: tuple[torch.Size, ...]


class Rows:
    """Computes the rows of a model runner's steps.

    Args:
        runner: its model is loaded, and not compiled yet.
        layers: hidden-state indices, ascending.
        attention: of the same runner.
    """

    def __init__(self, runner: Any, layers: tuple[int, ...], attention: Attention) -> None:
        self._layers = layers
        self._attention = attention
        self._hidden = HiddenStates(runner, layers)
        self._device: torch.device = runner.device
        self._width: int = runner.model_config.get_hidden_size()
        self._matrix: Tensor | None = None
        """(layers, columns, hidden), or ``None`` for whole hidden states."""

    def install(self, plan: Mapping[str, Any]) -> None:
        """Set the matrix; see :meth:`Reader.install`."""
        self._matrix = None
        if plan["matrix"] is not None:
            shape = (len(self._layers), self._width, plan["columns"])
            matrix = np.frombuffer(plan["matrix"], np.float32).reshape(shape).swapaxes(1, 2)
            self._matrix = torch.from_numpy(matrix.copy("C")).to(self._device)

    def of(self, step: compat.Step, logits: Tensor | None, places: Tensor, widest: int) -> Computed:
        """The rows of a step.

        Args:
            step: of the runner.
            logits: (rows or more, vocabulary); ``None`` on a rank of tensor parallelism that does
                not sample, whose rows are unused.
            places: first image position and number of image tokens, (2, rows).
            widest: columns of the attention, at least the largest number of image tokens.
        """
        count = len(step.requests)
        hidden = self._project(step)
        if logits is None:
            scores = torch.empty(count, 0, 4, device=self._device)
        else:
            scores = summed(logits[:count])
        parts = (hidden, scores, self._attention.rows(step, places, widest))
        values = torch.cat([part.reshape(-1) for part in parts])
        return Computed(values, tuple(part.shape for part in parts))

    def read(self, step: compat.Step, logits: Tensor, widest: int) -> list[Tensor]:
        """What :meth:`of` reads of vLLM's memory."""
        found = [logits, *self._hidden.at(step)]
        return found + self._attention.read(step) if widest else found

    def _project(self, step: compat.Step) -> Tensor:
        """(layers, rows, columns), float32, dense."""
        count = len(step.requests)
        states = self._hidden.at(step)
        if not states or (self._matrix is not None and not self._matrix.shape[1]):
            return torch.empty(len(states), count, 0, device=self._device)
        if step.rows is None:
            picked = torch.stack([state[:count] for state in states])
        else:
            picked = torch.stack([state.index_select(0, step.rows) for state in states])
        if self._matrix is None:
            return picked.float()
        if picked.device.type == "cuda":
            from service.engines.vllm_plugin.row_kernels import projected

            return projected(picked, self._matrix)
        return torch.bmm(picked.float(), self._matrix.mT)
