"""Queries as vLLM's engine core takes them, each rendered once."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from probes.types import Query
from service.engines.base import QueryRefused
from service.engines.vllm.prompts import Prompts
from service.engines.vllm_plugin.compat import refusals


class Rendering:
    """Renders queries, and keeps those that somebody still holds: samples need the greedy prompt.

    Samples may be asked for beside the greedy answer; the prompt is rendered once for both.

    Args:
        llm: vLLM's ``AsyncLLM``. prompts: of its checkpoint.
        context: most tokens of prompt and answer.
    """

    def __init__(self, llm: Any, prompts: Prompts, context: int) -> None:
        self._llm, self._prompts, self._context = llm, prompts, context
        self._rendered: WeakKeyDictionary[Query, Any] = WeakKeyDictionary()
        self._locks: WeakKeyDictionary[Query, asyncio.Lock] = WeakKeyDictionary()

    async def render(self, query: Query) -> Any:
        """The query as the engine core takes it. Raises QueryRefused."""
        async with self._locks.setdefault(query, asyncio.Lock()):
            if query not in self._rendered:
                self._rendered[query] = await self._render_anew(query)
            return self._rendered[query]

    async def _render_anew(self, query: Query) -> Any:
        bare = await asyncio.to_thread(self._prompts.prompt, query)
        self._check_length(len(bare["prompt_token_ids"]), query)
        try:
            [rendered] = await self._llm.renderer.render_cmpl_async([bare])
        except refusals() as error:
            raise QueryRefused(f"question: vLLM refuses the prompt: {error}") from error
        tokens: list[int] = rendered["prompt_token_ids"]
        self._check_length(len(tokens), query)
        if self._prompts.attend_both_ways:
            # The keys of the image depend on the question: only the same prompt may find them.
            rendered["cache_salt"] = hashlib.sha256(np.array(tokens).tobytes()).hexdigest()
        return rendered

    def _check_length(self, tokens: int, query: Query) -> None:
        if tokens + query.max_tokens > self._context:
            raise QueryRefused(
                f"question: {tokens} prompt tokens and max_tokens {query.max_tokens} exceed the "
                f"model's {self._context}; shorten the question"
            )
