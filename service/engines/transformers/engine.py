"""Hugging Face transformers, on CPU or CUDA: micro-batched, read by hooks, off the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakKeyDictionary

from probes.types import (
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)
from service.engines.base import EngineError
from service.engines.decoding import uniforms
from service.engines.transformers.batching import Batcher
from service.engines.transformers.checkpoint import (
    Answers,
    Checkpoint,
    Given,
    Greedy,
    Samples,
    Work,
)
from service.engines.transformers.prompts import Prompt
from service.engines.transformers.traces import NOT_REQUESTED


class TransformersEngine:
    """Any image-text-to-text checkpoint of the hub's format, safetensors only.

    Decoding is greedy whatever the checkpoint's generation_config says; only its end tokens are
    kept. Torch's thread count is left to the environment.

    Args:
        model: folder, or name on the Hugging Face hub; or a model that is in memory already.
        device: ``cpu``, ``cuda``, ``cuda:1``...; ``auto`` takes CUDA when there is one.
        dtype: ``float32``, ``bfloat16``, ``float16``; ``auto`` is float32 on CPU and
            the checkpoint's own on CUDA.
        max_batch_size: most rows that are generated together.
        batch_wait_seconds: longest wait for requests that are still being prepared.
        queue_size: most requests in the engine before it refuses with EngineOverloaded.
    """

    def __init__(
        self,
        model: str | Checkpoint,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_batch_size: int = 16,
        batch_wait_seconds: float = 0.004,
        queue_size: int = 256,
    ) -> None:
        self._source = model
        self._device = device
        self._dtype = dtype
        self._max_batch_size = max_batch_size
        self._batch_wait_seconds = batch_wait_seconds
        self._queue_size = queue_size
        self._loaded: Checkpoint | None = None
        self._batcher: Batcher[Work, Answers] | None = None
        self._prompts: WeakKeyDictionary[Query, Prompt] = WeakKeyDictionary()
        """Of the queries that somebody still holds: samples need the greedy answer's prompt."""
        self._preparing: WeakKeyDictionary[Query, threading.Lock] = WeakKeyDictionary()
        """Samples may be asked for beside the greedy answer; its prompt is prepared once."""

    @property
    def identity(self) -> ModelIdentity:
        return self._ready()[0].identity

    @property
    def healthy(self) -> bool:
        return (
            self._loaded is not None
            and not self._loaded.lost
            and self._batcher is not None
            and self._batcher.alive
        )

    async def start(self) -> None:
        source = self._source
        if isinstance(source, str):
            source = await asyncio.to_thread(Checkpoint.load, source, self._device, self._dtype)
        self._loaded = loaded = source
        self._batcher = Batcher(
            loaded.run,
            max_rows=self._max_batch_size,
            wait_seconds=self._batch_wait_seconds,
            capacity=self._queue_size,
        )

    async def generate(self, query: Query, readout: Readout) -> Generation:
        loaded, batcher = self._ready()
        loaded.taps.check(readout)
        entered = time.perf_counter()

        def prepare() -> Greedy:
            prompt = self._prompt(loaded, query, entered)
            words = loaded.words(prompt) if readout.question else NOT_REQUESTED
            return Greedy(prompt, readout, words)

        answer = await batcher.submit(prepare)
        assert isinstance(answer, Generation)
        return answer

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        if count < 1 or temperature <= 0 or not 0 < top_p <= 1 or seed < 0:
            raise ValueError("needs count >= 1, temperature > 0, 0 < top_p <= 1, seed >= 0")
        loaded, batcher = self._ready()
        entered = time.perf_counter()
        answers = await batcher.submit(
            lambda: Samples(
                self._prompt(loaded, query, entered),
                uniforms(seed, count, query.max_tokens),
                temperature,
                top_p,
            )
        )
        assert isinstance(answers, tuple)
        return answers

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        loaded, batcher = self._ready()
        loaded.check_answer(token_ids, query.max_tokens)
        entered = time.perf_counter()
        answer = await batcher.submit(
            lambda: Given(self._prompt(loaded, query, entered), tuple(token_ids))
        )
        assert isinstance(answer, AnswerScore)
        return answer

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        return self._ready()[0].patch_boxes(image_size, grid)

    @contextmanager
    def ablated(
        self, layer: int, neurons: Sequence[int], values: Sequence[float]
    ) -> Iterator[None]:
        """Answer everything with neurons held at fixed values, while the body runs.

        Nothing may be under way when it begins or ends. Arguments and errors are those of
        :meth:`Taps.ablate`.
        """
        with self._ready()[0].taps.ablate(layer, neurons, values):
            yield

    async def close(self) -> None:
        batcher, self._loaded = self._batcher, None
        if batcher is not None:
            await asyncio.to_thread(batcher.close)

    def _prompt(self, loaded: Checkpoint, query: Query, entered: float) -> Prompt:
        with self._preparing.setdefault(query, threading.Lock()):
            prompt = self._prompts.get(query)
            if prompt is None:
                prompt = self._prompts[query] = loaded.prepare(query, entered)
        return replace(prompt, entered=entered)

    def _ready(self) -> tuple[Checkpoint, Batcher[Work, Answers]]:
        if self._loaded is None or self._batcher is None:
            raise EngineError("the engine is not running; call start() first")
        return self._loaded, self._batcher
