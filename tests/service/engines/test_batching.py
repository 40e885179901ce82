from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from service.engines.base import EngineError, EngineOverloaded, QueryRefused
from service.engines.transformers.batching import Batcher


@dataclass
class Item:
    name: str
    kind: str = "greedy"
    rows: int = 1


@dataclass
class Model:
    """Answers items by their upper case; can be held, and fails on names in ``bad``."""

    bad: frozenset[str] = frozenset()
    batches: list[list[str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def run(self, items: Sequence[Item]) -> list[str]:
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append([item.name for item in items])
        if any(item.name in self.bad for item in items):
            raise RuntimeError("boom")
        return [item.name.upper() for item in items]


def batcher_of(model: Model, capacity: int = 64, wait: float = 10.0) -> Batcher[Item, str]:
    return Batcher(model.run, max_rows=4, wait_seconds=wait, capacity=capacity)


async def entered(model: Model) -> None:
    assert await asyncio.to_thread(model.entered.wait, 10)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the queue has no event of its own)
        await asyncio.sleep(0)


def submit(batcher: Batcher[Item, str], item: Item) -> asyncio.Task[str]:
    return asyncio.create_task(batcher.submit(lambda: item))


def test_requests_made_together_share_a_batch_up_to_its_size() -> None:
    async def scenario() -> None:
        model = Model()
        model.gate.set()
        batcher = batcher_of(model)
        answers = await asyncio.gather(*(submit(batcher, Item(name)) for name in "abcdef"))
        assert answers == list("ABCDEF")
        assert sorted(len(batch) for batch in model.batches) == [2, 4]
        batcher.close()

    asyncio.run(scenario())


def test_a_lone_request_does_not_wait() -> None:
    async def scenario() -> None:
        model = Model()
        model.gate.set()
        batcher = batcher_of(model, wait=3600.0)
        assert await asyncio.wait_for(submit(batcher, Item("a")), 10) == "A"
        batcher.close()

    asyncio.run(scenario())


def test_the_wait_for_slow_preparation_is_bounded() -> None:
    async def scenario() -> None:
        model, slow = Model(), threading.Event()
        model.gate.set()
        batcher = batcher_of(model, wait=0.01)

        def prepare() -> Item:
            assert slow.wait(10)
            return Item("slow")

        late = asyncio.create_task(batcher.submit(prepare))
        await asyncio.sleep(0)
        assert await submit(batcher, Item("a")) == "A"
        slow.set()
        assert await late == "SLOW"
        assert model.batches == [["a"], ["slow"]]
        batcher.close()

    asyncio.run(scenario())


def test_kinds_and_rows_make_batches() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = batcher_of(model)
        first = submit(batcher, Item("first"))
        await entered(model)
        items = [
            Item("a"),
            Item("s", "sample", 3),
            Item("b"),
            Item("t", "sample", 3),
            Item("wide", "sample", 9),
        ]
        rest = []
        for item in items:
            rest.append(submit(batcher, item))
            await until(lambda: len(batcher._queue) >= len(rest))
        model.gate.set()
        await asyncio.gather(first, *rest)
        assert model.batches == [["first"], ["a", "b"], ["s"], ["t"], ["wide"]]
        batcher.close()

    asyncio.run(scenario())


def test_a_cancelled_request_never_runs() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = batcher_of(model)
        first = submit(batcher, Item("first"))
        await entered(model)
        gone, stays = submit(batcher, Item("gone")), submit(batcher, Item("stays"))
        await until(lambda: len(batcher._queue) >= 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        model.gate.set()
        assert await asyncio.gather(first, stays) == ["FIRST", "STAYS"]
        assert model.batches == [["first"], ["stays"]]
        batcher.close()

    asyncio.run(scenario())


def test_a_full_engine_refuses_and_recovers() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = batcher_of(model, capacity=2)
        held = [submit(batcher, Item(name)) for name in "ab"]
        await entered(model)
        with pytest.raises(EngineOverloaded, match="2 requests"):
            await submit(batcher, Item("c"))
        model.gate.set()
        await asyncio.gather(*held)
        assert await submit(batcher, Item("d")) == "D"
        batcher.close()

    asyncio.run(scenario())


def test_one_bad_request_fails_alone() -> None:
    async def scenario() -> None:
        model = Model(bad=frozenset({"b"}))
        model.gate.set()
        batcher = batcher_of(model)
        answers = await asyncio.gather(
            *(submit(batcher, Item(name)) for name in "abc"), return_exceptions=True
        )
        assert (answers[0], answers[2]) == ("A", "C")
        assert isinstance(answers[1], EngineError)
        assert "RuntimeError: boom" in str(answers[1])
        assert batcher.alive
        batcher.close()

    asyncio.run(scenario())


def test_what_preparation_raises_reaches_the_caller() -> None:
    async def scenario() -> None:
        model = Model()
        model.gate.set()
        batcher = batcher_of(model, capacity=1)

        def prepare() -> Item:
            raise QueryRefused("question: no")

        for _ in range(3):
            with pytest.raises(QueryRefused):
                await batcher.submit(prepare)
        assert await submit(batcher, Item("a")) == "A"
        batcher.close()

    asyncio.run(scenario())


def test_close_does_not_wait_for_a_batch_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engines.transformers.batching.CLOSE_SECONDS", 0.01)

    async def scenario() -> None:
        model = Model()
        batcher = batcher_of(model)
        running = submit(batcher, Item("a"))
        await asyncio.to_thread(model.entered.wait)
        await asyncio.to_thread(batcher.close)
        assert batcher.alive
        model.gate.set()
        assert await running == "A"

    asyncio.run(scenario())


def test_close_finishes_what_runs_and_refuses_what_waits() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = batcher_of(model)
        runs = submit(batcher, Item("runs"))
        await entered(model)
        waits = submit(batcher, Item("waits"))
        await until(lambda: len(batcher._queue) > 0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await until(lambda: batcher._closed)
        with pytest.raises(EngineError, match="closed"):
            await submit(batcher, Item("late"))
        model.gate.set()
        await closing
        assert await runs == "RUNS"
        with pytest.raises(EngineError, match="closed"):
            await waits
        assert not batcher.alive

    asyncio.run(scenario())
