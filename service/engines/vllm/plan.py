"""What the workers compute for the readouts in use: one matrix per layer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.types import Readout
from service.engines.base import EngineError

KEPT = 4
"""Readouts whose matrices stay with the workers, so that two bundles can take turns."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The readouts whose values a step yields.

    Args:
        readouts: in the order of their columns.
        layers: armed hidden-state indices.
        hidden_size: width of a hidden state.
    """

    readouts: tuple[Readout, ...]
    layers: tuple[int, ...]
    hidden_size: int

    @property
    def whole(self) -> bool:
        """Whether whole hidden states are read, which the engine then projects itself."""
        return any(each.layers and each.projections is None for each in self.readouts)

    def holds(self, readout: Readout) -> bool:
        """Whether a readout's values can be taken from the steps."""
        bare = not readout.layers and not readout.attention_layers
        return bare or any(each is readout for each in self.readouts)

    def start(self, readout: Readout) -> int:
        """First column of a projected readout."""
        start = 0
        for each in self.readouts:
            if each is readout:
                return start
            start += _columns(each)
        raise ValueError("the readout is not part of the plan")

    def message(self) -> dict[str, Any]:
        """As :meth:`service.engines.vllm_plugin.runner.Reader.install` takes it."""
        columns = sum(_columns(each) for each in self.readouts)
        attention = any(each.attention_layers for each in self.readouts)
        if self.whole:
            return {"matrix": None, "columns": self.hidden_size, "attention": attention}
        matrix = np.zeros((len(self.layers), self.hidden_size, columns), np.float32)
        for readout in self.readouts:
            start = self.start(readout)
            for layer, part in (readout.projections or {}).items():
                if layer in readout.layers:
                    at = self.layers.index(layer)
                    matrix[at, :, start : start + part.shape[1]] = part
        return {"matrix": matrix.tobytes(), "columns": columns, "attention": attention}


class Plans:
    """Installs a plan before the first request that needs it.

    A request whose readout is not part of the plan waits until the running ones have ended, and
    those behind it wait for it: all rows of one request are of one plan. That happens once per
    bundle.

    Args:
        first: the plan to begin with.
        install: hands a plan to the workers.
    """

    def __init__(self, first: Plan, install: Callable[[Plan], Awaitable[None]]) -> None:
        self._plan = first
        self._install = install
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = 0

    @asynccontextmanager
    async def using(self, readout: Readout) -> AsyncIterator[Plan]:
        """Hold a plan with this readout while the body runs."""
        async with self._turn:
            if not self._plan.holds(readout):
                await self._idle.wait()
                kept = (*self._plan.readouts[-(KEPT - 1) :], readout)
                following = Plan(kept, self._plan.layers, self._plan.hidden_size)
                await self._install(following)
                self._plan = following
            plan = self._plan
            self._running += 1
            self._idle.clear()
        try:
            yield plan
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()


def check_readout(
    readout: Readout, last: int, layers: Sequence[int], attention_layers: Sequence[int]
) -> None:
    """Raise EngineError, naming the field, for layers that are not there or not armed."""
    for name, asked, armed, first in (
        ("layers", readout.layers, layers, 0),
        ("attention_layers", readout.attention_layers, attention_layers, 1),
    ):
        wrong = [k for k in asked if not first <= k <= last]
        if wrong:
            raise EngineError(f"readout.{name}: {wrong} are outside the model's {first} to {last}")
        wrong = [k for k in asked if k not in armed]
        if wrong:
            raise EngineError(
                f"readout.{name}: {wrong} were not armed when vLLM started ({list(armed)} are); "
                "start the service with this bundle"
            )


def _columns(readout: Readout) -> int:
    if readout.projections is None:
        return 0
    return max((readout.projections[layer].shape[1] for layer in readout.layers), default=0)
