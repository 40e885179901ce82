"""The short form of ``make fuzz``: seeds, what was found before, and some damage to each.

``tests/fuzz/found/<reader>/`` holds inputs that once were findings.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import readers, wire
from tests.fuzz.damage import damage
from tests.fuzz.readers import READERS

FOUND = Path(__file__).parent / "found"
DAMAGED = {"bundle": 20, "policy": 60, "settings": 60}
"""Inputs made anew, of readers that take longer; 200 of the others."""
LARGEST = 20_000
"""Bytes of a seed that is damaged here: large ones take their time, and atheris has it."""


@pytest.mark.parametrize("name", READERS)
def test_any_bytes_are_read_or_refused(name):
    reader, choose = READERS[name], random.Random(name)
    seeds = reader.seeds()
    small = [one for one in seeds if len(one) <= LARGEST]
    for seed in choose.sample(seeds, min(60, len(seeds))):
        reader.read(seed)
    for _ in range(DAMAGED.get(name, 200)):
        reader.read(damage(choose.choice(small), small, choose))


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_what_was_found_once(path):
    READERS[path.parent.name].read(path.read_bytes())


def test_what_a_reader_does_not_document_is_a_finding(monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("no word of it")

    monkeypatch.setattr(readers, "decode", broken)
    with pytest.raises(KeyError):
        READERS["picture"].read(b"any")


def test_damaged_requests_leave_the_service_as_it_was(tmp_path):
    told = wire.attack(60, seed=3, out=tmp_path, most=2 * wire.ROUND)
    assert told.findings == []
    assert told.requests == 2 * wire.ROUND
    assert {400, 422} <= set(told.statuses)
