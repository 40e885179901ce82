"""vLLM in this process: its throughput, with hidden states and attention read in its workers."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from probes.readouts import default_layers
from probes.types import (
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)
from service.engines.base import EngineError, EngineOverloaded, QueryRefused
from service.engines.decoding import cut
from service.engines.identity import identify
from service.engines.vllm.check import agrees, check_both_ways, sample_query, worst_deviation
from service.engines.vllm.options import VllmOptions, engine_arguments
from service.engines.vllm.plan import Plan, Plans, check_readout
from service.engines.vllm.prompts import Prompts
from service.engines.vllm.rendering import Rendering
from service.engines.vllm.start import load, on_cpu
from service.engines.vllm.traces import trace_of
from service.engines.vllm_plugin.compat import failures, refusals
from service.engines.vllm_plugin.record import FIRST, KEY, PROMPT, Record


class VllmEngine:
    """A checkpoint served by vLLM's ``AsyncLLM``.

    Which layers can be read is fixed when vLLM starts, since they are part of the compiled model.
    All methods must be called on the event loop that ran :meth:`start`.

    Args:
        model: folder, or name on the Hugging Face hub.
        dtype: ``float32``, ``bfloat16``, ``float16``; ``auto`` is the checkpoint's.
        options: vLLM's arguments.
        layers: hidden-state indices that readouts may name; ``None`` arms those that collection
            reads.
        attention_layers: decoder layers (1-based) likewise; ``None`` arms all of them.
        queue_size: most requests in the engine before it refuses with EngineOverloaded.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        options: VllmOptions | None = None,
        layers: tuple[int, ...] | None = None,
        attention_layers: tuple[int, ...] | None = None,
        queue_size: int = 256,
    ) -> None:
        self._source = model
        self._dtype = dtype
        self._options = options or VllmOptions()
        self._layers = layers
        self._attention_layers = attention_layers
        self._queue_size = queue_size
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._llm: Any = None
        self._prompts: Prompts | None = None
        self._plans: Plans | None = None
        self._rendering: Rendering | None = None
        self._identity: ModelIdentity | None = None
        self._chunks_on_cpu = False
        self.attention_missing: str | None = None
        """Why attention is not read, if it is not."""
        self.attention_deviation: dict[str, float] = {}
        """What the start-up check of attention found, by layer."""

    @property
    def identity(self) -> ModelIdentity:
        self._ready()
        assert self._identity is not None
        return self._identity

    @property
    def healthy(self) -> bool:
        return self._llm is not None and not self._closing and not self._llm.errored

    async def start(self) -> None:
        prompts = await asyncio.to_thread(Prompts, self._source)
        count = prompts.config.get_text_config().num_hidden_layers
        self._layers = tuple(sorted(self._layers or default_layers(count)))
        if self._attention_layers is None:
            self._attention_layers = tuple(range(1, count + 1))
        arguments = engine_arguments(
            self._source, self._dtype, self._options,
            self._layers, self._attention_layers, prompts.loading, prompts.attend_both_ways,
        )  # fmt: skip
        self._llm = await asyncio.to_thread(load, arguments)
        self._prompts = prompts
        self._chunks_on_cpu = on_cpu() and bool(arguments.get("enable_chunked_prefill"))
        config = self._llm.vllm_config.model_config
        self._rendering = Rendering(self._llm, prompts, config.max_model_len)
        dtype = str(config.dtype).removeprefix("torch.")
        try:
            self._identity = identify(
                self._source, prompts.config, prompts.processor,
                dtype=dtype if config.quantization is None else f"{dtype}+{config.quantization}",
                family=prompts.family.name, engine="vllm",
            )  # fmt: skip
            await self._arm(dtype)
        except BaseException:
            await self.close()
            raise

    async def generate(self, query: Query, readout: Readout) -> Generation:
        _, prompts, plans = self._ready()
        assert self._layers is not None
        assert self._attention_layers is not None
        check_readout(readout, self.identity.layers, self._layers, self._attention_layers)
        entered = time.perf_counter()
        self._enter()
        try:
            prompt = await self._render(query)
            grid = None
            if readout.attention_layers:
                grid = await asyncio.to_thread(prompts.grid, *query.image.shape[:2])
            async with plans.using(readout) as plan:
                started = time.perf_counter()
                wish = {"attention": bool(readout.attention_layers)}
                output = await self._run(
                    prompt, self._sampling(query, prompt, {KEY: wish}, temperature=0.0)
                )
        finally:
            self._leave()
        sampled = output.outputs[0].token_ids
        tokens, ended = cut(sampled, query.max_tokens, prompts.ends)
        packed = (output.kv_transfer_params or {}).get(KEY)
        if packed is None:
            raise EngineError("vLLM gave an answer without what was read of it")
        trace = trace_of(
            Record.unpack(packed), readout, plan, tokens=len(tokens), ended=ended, grid=grid,
            attention_layers=self._attention_layers, attention_missing=self.attention_missing,
        )  # fmt: skip
        return Generation(
            answer=prompts.text(tokens),
            token_ids=tokens,
            finish_reason="stop" if ended else "length",
            trace=trace,
            queue_seconds=started - entered,
            generate_seconds=time.perf_counter() - started,
        )

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        """One request per sample; they share the prompt's cache with the greedy answer."""
        if count < 1 or temperature <= 0 or not 0 < top_p <= 1 or seed < 0:
            raise ValueError("needs count >= 1, temperature > 0, 0 < top_p <= 1, seed >= 0")
        _, prompts, _ = self._ready()
        if self._chunks_on_cpu:
            raise EngineError(
                "vLLM's CPU build cannot draw seeded samples from prompts in chunks; leave "
                "enable_chunked_prefill off there"
            )
        self._enter()
        try:
            prompt = await self._render(query)
            drawn = partial(self._sampling, query, prompt, temperature=temperature, top_p=top_p)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._run(prompt, drawn(seed=sample_seed(seed, index))))
                    for index in range(count)
                ]
        except* EngineError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._leave()
        return tuple(
            prompts.text(cut(task.result().outputs[0].token_ids, query.max_tokens, prompts.ends)[0])
            for task in tasks
        )

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        """The answer's tokens follow the prompt, and vLLM tells what it thinks of a prompt."""
        _, prompts, _ = self._ready()
        prompts.check_answer(token_ids, query.max_tokens)
        self._enter()
        try:
            rendered = await self._render(query)
            whole = [*rendered["prompt_token_ids"], *token_ids]
            one = replace(query, max_tokens=1)
            output = await self._run(
                {**rendered, "prompt_token_ids": whole},
                self._sampling(one, rendered, temperature=0.0, prompt_logprobs=1),
            )
        finally:
            self._leave()
        (following,) = output.outputs[0].token_ids
        places = output.prompt_logprobs[len(whole) - len(token_ids) :]
        scores = [place[token] for place, token in zip(places, token_ids, strict=True)]
        ends = following in prompts.ends or len(token_ids) == query.max_tokens
        return AnswerScore(
            logprob=float(sum(score.logprob for score in scores)),
            greedy=ends and all(score.rank == 1 for score in scores),
        )

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        _, prompts, _ = self._ready()
        return prompts.family.patch_boxes(prompts.config, prompts.processor, image_size, grid)

    async def close(self) -> None:
        llm, self._closing = self._llm, True
        if llm is None:
            return
        await self._idle.wait()  # also when vLLM has died: its requests have failed then
        self._llm = self._rendering = None
        # On this thread: vLLM's task that waits for answers must not see its engine go.
        llm.shutdown()

    def _ready(self) -> tuple[Any, Prompts, Plans]:
        if self._llm is None or self._prompts is None or self._plans is None or self._closing:
            raise EngineError("the engine is not running; call start() first")
        return self._llm, self._prompts, self._plans

    def _enter(self) -> None:
        if self._open >= self._queue_size:
            raise EngineOverloaded(f"the engine already holds {self._queue_size} requests")
        self._open += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()

    async def _render(self, query: Query) -> Any:
        assert self._rendering is not None
        return await self._rendering.render(query)

    def _sampling(
        self, query: Query, prompt: Any, wish: Mapping[str, Any] | None = None, **settings: Any
    ) -> Any:
        """Sampling parameters; ``wish`` is what the plugin is to read."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        assert self._prompts is not None
        extra = dict(wish or {})
        if self._prompts.attend_both_ways:
            extra[PROMPT] = len(prompt["prompt_token_ids"])
        return SamplingParams(
            extra_args=extra or None,
            max_tokens=query.max_tokens,
            stop_token_ids=sorted(self._prompts.ends),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **settings,
        )

    async def _run(self, prompt: Any, sampling: Any) -> Any:
        """One request. Cancelling it takes it out of vLLM."""
        from vllm.v1.engine.exceptions import EngineDeadError

        last = None
        try:
            async for output in self._llm.generate(prompt, sampling, uuid.uuid4().hex):
                last = output
        except EngineDeadError as error:
            raise EngineError("vLLM's engine has died; its log says why") from error
        except refusals() as error:
            raise QueryRefused(f"question: vLLM refuses the request: {error}") from error
        except failures() as error:
            raise EngineError(f"vLLM failed: {error.__cause__ or error}") from error
        if last is None or last.outputs[0].finish_reason not in ("stop", "length"):
            reason = "no answer" if last is None else last.outputs[0].finish_reason
            raise EngineError(f"vLLM gave the request up: {reason}")
        return last

    async def _call(self, method: str, *arguments: Any) -> list[Any]:
        """Call every worker."""
        answers: list[Any] = await self._llm.collective_rpc(method, args=arguments)
        return answers

    async def _install(self, plan: Plan) -> None:
        await self._call("vlm_gate_install", plan.message())

    async def _arm(self, dtype: str) -> None:
        """See that the plugin runs in the workers, and that it reads attention as it is."""
        states = await self._call("vlm_gate_status")
        if not all(state["armed"] for state in states):
            raise EngineError(
                "vLLM's worker did not load the plugin vlm_gate; install vlm-gate where vLLM "
                "runs, and name vlm_gate in VLLM_PLUGINS if that is set"
            )
        self.attention_missing = states[0]["attention_missing"]
        assert self._layers is not None
        assert self._attention_layers is not None
        probe = Readout(attention_layers=self._attention_layers)
        assert self._identity is not None
        empty = Plan((), self._layers, self._identity.hidden_size)
        self._plans = Plans(empty, self._install)
        await self._check_prompt()
        await self._call("vlm_gate_check", True)
        await self.generate(sample_query(0), probe)
        await asyncio.gather(*(self.generate(sample_query(n), probe) for n in range(1, 6)))
        found = await self._call("vlm_gate_check", False)
        self._judge(found, dtype)

    def _judge(self, found: Sequence[dict[str, float]], dtype: str) -> None:
        """What the check found, by worker. Raises EngineError where prompts are not read whole."""
        assert self._prompts is not None
        assert self._attention_layers is not None
        first = max(each.pop(FIRST, math.inf) for each in found)
        self.attention_deviation = {layer: max(each[layer] for each in found) for layer in found[0]}
        if self.attention_missing is not None:
            return  # nothing could be recomputed
        if self._prompts.attend_both_ways:
            check_both_ways(first, dtype)
        if not agrees(worst_deviation(self.attention_deviation, self._attention_layers), dtype):
            self.attention_missing = "attention_mismatch"

    async def _check_prompt(self) -> None:
        """See that vLLM builds the prompt that the checkpoint's own processor does."""
        assert self._prompts is not None
        query = sample_query(0)
        rendered = await self._render(query)
        if list(rendered["prompt_token_ids"]) != self._prompts.whole(query):
            raise EngineError(
                "vllm: builds another prompt than the checkpoint's processor does; "
                "this version of vLLM does not fit the checkpoint"
            )


def sample_seed(seed: int, index: int) -> int:
    """Seed of a request's sample: of its own, whatever else is drawn."""
    return int(np.random.default_rng([seed, index]).integers(2**31))
