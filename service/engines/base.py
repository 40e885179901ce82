"""What every engine does: answer a question and read what the bundle asks for."""

from __future__ import annotations

from typing import Protocol

from probes.types import Generation, ModelIdentity, Query, Readout


class EngineError(Exception):
    """The engine could not answer. The service turns it into a 503."""


class EngineOverloaded(EngineError):
    """The engine's own queue is full."""


class QueryRefused(EngineError):
    """The model cannot be asked this query; the message names the field and the mend.

    The service turns it into a 422.
    """


class Engine(Protocol):
    """An engine owns a model. Its methods may be called concurrently from one event loop."""

    @property
    def identity(self) -> ModelIdentity:
        """The loaded model, as bundles are bound to it. Known after :meth:`start`."""
        ...

    @property
    def healthy(self) -> bool:
        """False once the engine cannot answer any more."""
        ...

    async def start(self) -> None:
        """Load the model. Raises EngineError with the reason when that fails."""
        ...

    async def generate(self, query: Query, readout: Readout) -> Generation:
        """Answer greedily and read on the way.

        The result must not depend on what else is in the batch beyond rounding. A readout that
        cannot be had is a ``Missing`` in the trace, never a number. Raises EngineError.
        """
        ...

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        """Draw ``count`` answers (stripped text). The same seed gives the same answers."""
        ...

    async def close(self) -> None:
        """Finish what runs, free the model. May be called twice."""
        ...
