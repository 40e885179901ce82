"""Runs work on many items, a bounded number at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def gather_bounded(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], in_flight: int
) -> list[Result]:
    """Await ``work`` on every item, at most ``in_flight`` at once; results in the items' order.

    The first error cancels the rest and is raised as it is.
    """
    gate = asyncio.Semaphore(in_flight)

    async def one(item: Item) -> Result:
        async with gate:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
