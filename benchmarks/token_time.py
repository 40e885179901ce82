"""Time per token of some answers at once, for several ways of asking in turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from statistics import median
from typing import Any

from probes.types import Query


class Clock:
    """Notes when an engine began and ended each answer, by the clock of vLLM's engine core.

    Reading and rendering of images, which scatter more than a token takes, are left out so.

    Args:
        llm: an ``AsyncLLM`` with its statistics on; its ``generate`` is wrapped.
    """

    def __init__(self, llm: Any) -> None:
        self._answers: list[tuple[float, float, int]] = []
        generate = llm.generate

        async def noted(*args: Any, **options: Any) -> AsyncIterator[Any]:
            last = None
            async for output in generate(*args, **options):
                last = output
                yield output
            if last is not None:
                times = last.metrics
                count = len(last.outputs[0].token_ids)
                self._answers.append((times.first_token_ts, times.last_token_ts, count))

        llm.generate = noted

    def per_token(self, answers: int, tokens: int) -> float | None:
        """Seconds per token of the answer that began last, so that no prompt is read beside it.

        ``None`` unless there were that many answers of that many tokens. Forgets them.
        """
        found, self._answers = self._answers, []
        if len(found) != answers or any(count != tokens for *_, count in found):
            return None
        first, last, _ = max(found)
        return (last - first) / (tokens - 1)


async def time_per_token(
    found: dict[str, Any],
    ways: Mapping[str, Callable[[Query], Awaitable[int]]],
    clocks: Sequence[Clock],
    asked: Callable[[int], list[Query]],
    rounds: int,
) -> None:
    """Measure every way in each round, in an order that rotates, after one round for nothing.

    Args:
        found: gets every round, and per way the median and the spread of its ratios to ``plain``.
        ways: of asking, by name.
        clocks: of all engines that they ask.
        asked: new queries by seed, all asked at once.
        rounds: of each way.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {way: [] for way in names}
    found["seconds_per_token_at_8"] = seconds
    for number in range(rounds + 1):
        took: dict[str, float] = {}
        for place in range(len(names)):
            way = names[(place + number) % len(names)]
            queries = asked(20_000 + 10 * number + place)
            await asyncio.gather(*(ways[way](query) for query in queries))
            each = [clock.per_token(len(queries), queries[0].max_tokens) for clock in clocks]
            measured = [value for value in each if value is not None]
            if measured:
                took[way] = measured[0]
        if number and len(took) == len(names):
            for way in names:
                seconds[way].append(round(took[way], 6))
    if not seconds["plain"]:
        return
    ratios = {
        way: sorted(a / b for a, b in zip(seconds[way], seconds["plain"], strict=True))
        for way in names
    }
    found["time_per_token_ratio"] = {way: round(median(each), 4) for way, each in ratios.items()}
    found["time_per_token_ratio_spread"] = {
        way: [round(each[0], 4), round(each[-1], 4)] for way, each in ratios.items()
    }
