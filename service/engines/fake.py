"""An engine without a model: the same query always gives the same answer, states and samples."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from probes.types import (
    AnswerScore,
    AttentionMaps,
    FloatArray,
    Generation,
    LensMargins,
    Missing,
    ModelIdentity,
    Position,
    Query,
    QuestionMaps,
    Readout,
    Trace,
)
from service.engines.base import EngineError, EngineOverloaded
from service.engines.patch_boxes import resized_boxes

GRID = (4, 4)
HEADS = 2
REMEMBERED = 64
"""Queries whose numbers are kept: drawing them takes longer than what is measured around them."""
_EMPTY = Missing("empty_answer")


class FakeEngine:
    """Answers without a model: for tests, and for trying the service.

    Args:
        layers: decoder layers.
        hidden_size: width of the hidden states.
        answer_for: the greedy answer; ``yes`` or ``no`` by the query's hash when left out.
        sample_for: (query, index) to a sampled answer; left out, the greedy one nine times of ten.
        latency_seconds: how long an answer takes.
        capacity: most requests at once before EngineOverloaded.
    """

    def __init__(
        self,
        *,
        layers: int = 4,
        hidden_size: int = 8,
        answer_for: Callable[[Query], str] | None = None,
        sample_for: Callable[[Query, int], str] | None = None,
        latency_seconds: float = 0.0,
        capacity: int = 256,
    ) -> None:
        self.identity = ModelIdentity(
            name="fake",
            revision="fake",
            family="fake",
            layers=layers,
            hidden_size=hidden_size,
            dtype="float32",
            engine="fake",
            processor_hash="fake",
            chat_template_hash="fake",
        )
        self.failure: EngineError | None = None
        """Set it, and every request fails with it."""
        self._answer_for = answer_for or _yes_or_no
        self._sample_for = sample_for
        self._latency_seconds = latency_seconds
        self._capacity = capacity
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._trace)
        self._running = False
        self._open = 0
        self._gate = asyncio.Event()
        self._gate.set()

    @property
    def healthy(self) -> bool:
        return self._running and self.failure is None

    def hold(self) -> None:
        """Requests wait inside the engine until :meth:`release`."""
        self._gate.clear()

    def release(self) -> None:
        """Let the held requests go on."""
        self._gate.set()

    async def start(self) -> None:
        self._running = True

    async def close(self) -> None:
        self._running = False

    async def generate(self, query: Query, readout: Readout) -> Generation:
        entered = time.perf_counter()
        self._check(readout)
        await self._work()
        tokens, ended = self._greedy(query)
        return Generation(
            answer=tokens.decode(errors="ignore").strip(),
            token_ids=tuple(tokens),
            finish_reason="stop" if ended else "length",
            trace=self._remembered(_digest(query), readout, len(tokens)),
            generate_seconds=time.perf_counter() - entered,
        )

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        await self._work()
        if self._sample_for is not None:
            return tuple(self._sample_for(query, index).strip() for index in range(count))
        greedy = self._answer_for(query).strip()
        draws = (np.random.default_rng([seed, index]).random() for index in range(count))
        return tuple(greedy if draw < 0.9 else f"not {greedy}" for draw in draws)

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        """Give the greedy answer its own log-probability, another answer one nat less a token."""
        if len(token_ids) > query.max_tokens or not all(0 <= one < 256 for one in token_ids):
            raise ValueError("token_ids: at most max_tokens bytes")
        await self._work()
        tokens, _ = self._greedy(query)
        logprobs = -_random(_digest(query), "token").random(len(token_ids))
        padded = [*tokens, *[-1] * len(token_ids)]
        other = sum(mine != theirs for mine, theirs in zip(token_ids, padded, strict=False))
        return AnswerScore(float(logprobs.sum()) - other, bytes(token_ids) == tokens)

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        return resized_boxes(None, None, image_size, grid)

    def state(self, query: Query, layer: int, position: Position) -> FloatArray:
        """The whole hidden state that :meth:`generate` reads, shape (hidden,)."""
        return self._state(_digest(query), layer, position)

    def _state(self, digest: bytes, layer: int, position: Position) -> FloatArray:
        numbers = _random(digest, f"{layer} {position}")
        return numbers.standard_normal(self.identity.hidden_size).astype(np.float32)

    def _greedy(self, query: Query) -> tuple[bytes, bool]:
        """The answer's tokens, and whether it ended by itself."""
        whole = self._answer_for(query).strip().encode()
        return whole[: query.max_tokens], len(whole) < query.max_tokens

    def _trace(self, digest: bytes, readout: Readout, tokens: int) -> Trace:
        numbers = _random(digest, "token")
        return Trace(
            logprobs=-numbers.random(tokens),
            first_token_entropy=float(numbers.random()),
            first_token_margin=float(numbers.random()),
            readouts={
                (layer, position): self._read(digest, readout, layer, position, tokens > 0)
                for layer in readout.layers
                for position in readout.positions
            },
            attention=self._attention(digest, readout, tokens > 0),
            heads=self._heads(digest, readout, tokens > 0),
            question=self._question(digest, readout),
            lens=self._lens(digest, readout),
        )

    def _read(
        self, digest: bytes, readout: Readout, layer: int, position: Position, answered: bool
    ) -> FloatArray | Missing:
        if not answered and position != "prompt_last":
            return _EMPTY
        state = self._state(digest, layer, position)
        if readout.projections is None:
            return state
        projected: FloatArray = state @ readout.projections[layer]
        return projected

    def _attention(
        self, digest: bytes, readout: Readout, answered: bool
    ) -> AttentionMaps | Missing:
        if not readout.attention_layers:
            return Missing("not_requested")
        rows = _rows(digest, "attention", readout).mean(2)
        return AttentionMaps(
            layers=readout.attention_layers,
            prompt_last=rows[0],
            answer_mean=rows[1] if answered else _EMPTY,
            grid=GRID,
        )

    def _heads(self, digest: bytes, readout: Readout, answered: bool) -> AttentionMaps | Missing:
        if not (readout.heads and readout.attention_layers):
            return Missing("not_requested")
        rows = _rows(digest, "attention", readout)
        return AttentionMaps(
            layers=readout.attention_layers,
            prompt_last=rows[0],
            answer_mean=rows[1] if answered else _EMPTY,
            grid=GRID,
        )

    def _question(self, digest: bytes, readout: Readout) -> QuestionMaps | Missing:
        if not (readout.question and readout.attention_layers):
            return Missing("not_requested")
        rows = _rows(digest, "question", readout).mean(2)
        return QuestionMaps(readout.attention_layers, rows[0], rows[1], GRID)

    def _lens(self, digest: bytes, readout: Readout) -> LensMargins | Missing:
        if not (readout.lens and readout.layers):
            return Missing("not_requested")
        numbers = _random(digest, "lens")
        top, yes_no = numbers.random(len(readout.layers)), numbers.normal(size=len(readout.layers))
        return LensMargins(readout.layers, top, yes_no)

    def _check(self, readout: Readout) -> None:
        last = self.identity.layers
        for name, layers, first in (
            ("layers", readout.layers, 0),
            ("attention_layers", readout.attention_layers, 1),
        ):
            wrong = [k for k in layers if not first <= k <= last]
            if wrong:
                raise EngineError(f"readout.{name}: {wrong} are outside {first} to {last}")

    async def _work(self) -> None:
        if not self._running:
            raise EngineError("the engine is not running; call start() first")
        if self._open >= self._capacity:
            raise EngineOverloaded(f"the engine already holds {self._capacity} requests")
        self._open += 1
        try:
            await self._gate.wait()
            await asyncio.sleep(self._latency_seconds)
        finally:
            self._open -= 1
        if self.failure is not None:
            raise self.failure


def _rows(digest: bytes, purpose: str, readout: Readout) -> FloatArray:
    """Two attention rows to the image per layer and head, (2, layers, heads, image_tokens)."""
    shape = (2, HEADS, GRID[0] * GRID[1] + 1)
    layers = readout.attention_layers  # each the same, whichever else are read
    raw = np.stack(
        [_random(digest, f"{purpose} {layer}").random(shape) for layer in layers], axis=1
    )
    rows: FloatArray = raw / raw.sum(-1, keepdims=True)
    return rows[..., :-1]  # the last key is all of the text


def _random(digest: bytes, purpose: str) -> np.random.Generator:
    whole = hashlib.sha256(purpose.encode() + digest)
    return np.random.default_rng(int.from_bytes(whole.digest()[:8], "big"))


@lru_cache(maxsize=64)
def _digest(query: Query) -> bytes:
    whole = hashlib.sha256(str(query.image.shape).encode())
    whole.update(np.ascontiguousarray(query.image).data)
    whole.update(query.question.encode())
    return whole.digest()


def _yes_or_no(query: Query) -> str:
    return _of(_digest(query))


@lru_cache(maxsize=REMEMBERED)
def _of(digest: bytes) -> str:
    return "yes" if _random(digest, "answer").random() < 0.5 else "no"
