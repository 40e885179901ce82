"""``collect`` labels every case of the table, and says what it could not read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from probes.data.base_accuracy import base_accuracy
from probes.data.collect import collect
from probes.data.datasets import load_dataset
from probes.data.store import Store
from probes.labels.abstention import abstains
from probes.types import GenerationSettings
from service.cli.collect import warn_of_labels
from service.engines.fake import FakeEngine
from tests.label_cases import CASES

pytestmark = pytest.mark.anyio
LONGEST = 4_096


@pytest.fixture
def collected(tmp_path: Path) -> Callable[..., Any]:
    """Collect lines, each with the answer that the model gives to it."""

    async def run(lines: Mapping[str, dict[str, Any]], answers: Mapping[str, str]) -> Store:
        Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
        text = "".join(
            json.dumps({"id": name, "image": "a.png", "question": name, **line}) + "\n"
            for name, line in lines.items()
        )
        (tmp_path / "d.jsonl").write_text(text, encoding="utf-8")
        examples, problems = load_dataset(tmp_path / "d.jsonl")
        assert all("an abstention is never right" in one.message for one in problems)
        engine = FakeEngine(answer_for=lambda query: answers[query.question])
        await engine.start()
        settings = GenerationSettings(LONGEST, 0, 0.7, 0.9)
        return await collect(examples, engine, tmp_path / "run", generation=settings)

    return run


async def test_every_case_of_the_table(collected: Callable[..., Any]) -> None:
    cases = {f"case {number}": case for number, case in enumerate(CASES)}
    lines = {
        name: {"references": list(case.references), "rule": case.rule}
        for name, case in cases.items()
    }
    store = await collected(lines, {name: case.answer for name, case in cases.items()})
    found = {record.id: not record.wrong for record in store.records}
    refused = {
        name
        for name, case in cases.items()
        if case.rule_name == "match" and all(abstains(one) for one in case.references)
    }
    assert found == {name: case.right for name, case in cases.items() if name not in refused}


async def test_what_was_not_read_is_counted_and_shown(
    collected: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ["yes", "I don't know", "Keine Ahnung", "a plate", "No", "no no no no"]
    line = {"references": ["yes"], "rule": "yes_no", "kind": "presence"}
    one = {"references": ["yes"], "kind": "one"}
    other = {"references": ["no"], "kind": "one"}
    lines = {f"{n} {answer}": line for n, answer in enumerate(answers)}
    lines |= {f"{n} same": one if n % 2 else other for n in range(10, 20)}
    store = await collected(lines, {name: name.partition(" ")[2] for name in lines})
    bases = {base.kind: base for base in base_accuracy(store.records)}
    assert Counter({k: b.abstentions for k, b in bases.items()}) == Counter(all=2, presence=2)
    assert Counter({k: b.unparsed for k, b in bases.items()}) == Counter(all=1, presence=1)
    assert (bases["one"].one_reading, bases["presence"].one_reading) == ("same", "")
    warn_of_labels(store)
    told = capsys.readouterr().err
    for words in (
        "kind presence: 2 of 6 answers are abstentions, 1 more hold nothing that the rule reads",
        "kind presence: 1 of 6 answers are degenerate (empty, markup or a loop)",
        "kind one: each of 10 answers was read as 'same', and their references differ",
        "kind one: all references are yes or no, judged by rule match; name rule yes_no",
    ):
        assert told.count(f"warning: {words}") == 1
