"""The time per token is that of the answer that began last, and ratios are taken per round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.token_time import Clock, time_per_token
from probes.types import Query


class Llm:
    """Answers begin a second after each other; each token takes as long as told."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = 0

    async def generate(self, tokens: int) -> AsyncIterator[Any]:
        self.begun += 1
        # What began earlier was held up by the prompts behind it.
        seconds = self.seconds + 1.0 / self.begun - 1.0 / 3
        times = SimpleNamespace(
            first_token_ts=float(self.begun),
            last_token_ts=self.begun + seconds * (tokens - 1),
        )
        yield SimpleNamespace(
            metrics=times, outputs=[SimpleNamespace(token_ids=list(range(tokens)))]
        )


def asked(seed: int) -> list[Query]:
    return [Query(np.zeros((8, 8, 3), np.uint8), str(seed), 5) for _ in range(3)]


def test_ratios_are_to_plain_by_round() -> None:
    plain, gate = Llm(0.0), Llm(0.0)
    clocks = [Clock(plain), Clock(gate)]
    order: list[str] = []

    def way(name: str, llm: Llm, seconds: float) -> Any:
        async def ask(query: Query) -> int:
            if llm.begun in (0, 3):
                llm.begun, llm.seconds = 0, seconds
                order.append(name)
            async for _ in llm.generate(query.max_tokens):
                pass
            return query.max_tokens

        return ask

    ways = {
        "plain": way("plain", plain, 1.0),
        "readouts": way("readouts", gate, 1.01),
        "attention": way("attention", gate, 1.5),
    }
    found: dict[str, Any] = {}
    asyncio.run(time_per_token(found, ways, clocks, asked, rounds=2))
    assert found["seconds_per_token_at_8"] == {
        "plain": [1.0, 1.0], "readouts": [1.01, 1.01], "attention": [1.5, 1.5],
    }  # fmt: skip
    assert found["time_per_token_ratio"] == {"plain": 1.0, "readouts": 1.01, "attention": 1.5}
    assert found["time_per_token_ratio_spread"]["attention"] == [1.5, 1.5]
    assert order[::3] == ["plain", "readouts", "attention"]  # each comes first once


@pytest.mark.parametrize(("answers", "tokens"), [(3, 6), (4, 5)])
def test_answers_that_ended_early_are_not_timed(answers: int, tokens: int) -> None:
    llm = Llm(1.0)
    clock = Clock(llm)

    async def ask() -> None:
        for _ in range(3):
            async for _ in llm.generate(5):
                pass

    asyncio.run(ask())
    assert clock.per_token(answers, tokens) is None
    asyncio.run(ask())
    assert clock.per_token(3, 5) is not None
