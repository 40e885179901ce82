from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from probes.data.bounded import gather_bounded
from probes.data.shards import Column, Row, fill
from probes.errors import StoreError
from probes.types import Missing

SETUP = {"what": "squares"}


class Squares:
    """Squares, none of a multiple of three; fails when told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.fails_at = -1

    async def __call__(self, items: Sequence[int]) -> Sequence[Row]:
        rows = []
        for item in items:
            if item == self.fails_at:
                raise RuntimeError("cut off")
            self.asked.append(item)
            square: Row = {
                "square": Missing("third") if item % 3 == 0 else np.array([item, item**2]),
                "never": Missing("gone"),
                "even": np.array(item % 2 == 0),
            }
            rows.append(square)
        return rows


def run(folder: Path, measure: Squares, setup: dict[str, str] = SETUP) -> dict[str, Column]:
    return asyncio.run(fill(folder, setup, range(7), measure, shard_size=3))


def check(columns: dict[str, Column]) -> None:
    assert columns["square"].values.tolist() == [[1, 1], [2, 4], [4, 16], [5, 25]]
    assert columns["square"].present.tolist() == [False, True, True, False, True, True, False]
    assert columns["square"].missing == {"third": 3}
    assert columns["never"].missing == {"gone": 7}
    assert not columns["never"].present.any()
    assert columns["even"].values.tolist() == [True, False] * 3 + [True]


def test_columns_and_why_they_lack(tmp_path: Path) -> None:
    check(run(tmp_path / "run", Squares()))


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    first = Squares()
    first.fails_at = 4
    with pytest.raises(RuntimeError, match="cut off"):
        run(tmp_path / "run", first)
    second = Squares()
    check(run(tmp_path / "run", second))
    assert second.asked == [3, 4, 5, 6]
    third = Squares()
    check(run(tmp_path / "run", third))
    assert third.asked == []


def test_another_setup_and_a_damaged_shard_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(folder, Squares())
    with pytest.raises(StoreError, match="other measurements"):
        run(folder, Squares(), {"what": "cubes"})
    (folder / "00001.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"00001\.safetensors: is missing or damaged"):
        run(folder, Squares())


def test_bounded_work_keeps_the_order_and_the_limit() -> None:
    inside, most = 0, 0

    async def work(item: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return item * 10

    assert asyncio.run(gather_bounded(range(9), work, 3)) == [item * 10 for item in range(9)]
    assert most == 3


def test_the_first_error_ends_it() -> None:
    async def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    with pytest.raises(ValueError, match="two"):
        asyncio.run(gather_bounded(range(5), work, 2))
