"""What every engine does: answer a question and read what the bundle asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from probes.errors import QuestionRefused
from probes.types import (
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)


class EngineError(Exception):
    """The engine could not answer. The service turns it into a 503."""


class EngineOverloaded(EngineError):
    """The engine's own queue is full."""


class QueryRefused(EngineError, QuestionRefused):
    """The model cannot be asked this query; the message names the field and the fix.

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

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        """What the model thinks of a given answer, teacher-forced.

        For the greedy answer's own tokens it gives the sum of its ``logprobs``, up to rounding,
        and ``greedy``.

        Args:
            token_ids: the answer's tokens as in :class:`Generation`, at most ``query.max_tokens``.

        Raises ValueError for tokens that no answer has, EngineError.
        """
        ...

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        """Which pixels each image token stands for, or why that is not known.

        Args:
            image_size: height and width of the query's image.
            grid: rows and columns of its image tokens, as in :class:`AttentionMaps`.

        Returns left, top, right and bottom in pixels of the image, (image_tokens, 4).
        """
        ...

    async def close(self) -> None:
        """Finish running requests and free the model. May be called twice."""
        ...
