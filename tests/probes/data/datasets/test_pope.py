from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes.data.datasets import load_dataset
from probes.errors import DataError

COCO = ("COCO_val2014_000000310196.jpg", "COCO_val2014_000000262148.jpg")
WriteLines = Callable[..., Path]

# As published, blanks and order of the fields included.
PUBLISHED = (
    b'{"question_id": 1, "image": "COCO_val2014_000000310196.jpg", '
    b'"text": "Is there a snowboard in the image?", "label": "yes"}',
    b'{"question_id": 2, "image": "COCO_val2014_000000310196.jpg", '
    b'"text": "Is there a dining table in the image?", "label": "no"}',
)
GOOD = {"question_id": 3, "image": COCO[1], "text": "Is there a cup in the image?", "label": "no"}


@pytest.mark.parametrize("strategy", ["random", "popular", "adversarial"])
def test_the_published_format(write_lines: WriteLines, strategy: str) -> None:
    (first, second), problems = load_dataset(
        write_lines(f"coco_pope_{strategy}.json", [*PUBLISHED])
    )
    assert problems == ()
    assert (first.id, second.id) == (f"{strategy}-1", f"{strategy}-2")
    assert first.question == "Is there a snowboard in the image?"
    assert (first.references, second.references) == (("yes",), ("no",))
    assert first.image_path.name == COCO[0]
    assert (first.slice, first.rule) == (strategy, "yes_no")


BAD: list[tuple[Any, str]] = [
    (b'{"question_id": 9,', "not JSON"),
    (b'{"question_id": 9} {}', "not JSON"),
    (b"\x80", "not UTF-8"),
    (["yes"], "not a JSON object"),
    ({**GOOD, "label": "maybe"}, "label: 'maybe'"),
    ({**GOOD, "label": True}, "label:"),
    ({name: value for name, value in GOOD.items() if name != "label"}, "label:"),
    ({**GOOD, "question_id": "9"}, "question_id:"),
    ({**GOOD, "question_id": True}, "question_id:"),
    ({**GOOD, "text": "  "}, "text:"),
    ({**GOOD, "image": None}, "image: missing"),
    ({**GOOD, "image": "COCO_val2014_000000000001.jpg"}, "image: COCO_val2014_000000000001.jpg"),
    ({**GOOD, "question_id": 1}, "stands on line 1 already"),
]


def test_every_malformed_line_is_told_and_the_rest_is_used(write_lines: WriteLines) -> None:
    lines = [PUBLISHED[0], *(bad for bad, _ in BAD), GOOD]
    examples, problems = load_dataset(write_lines("coco_pope_popular.json", lines))
    assert [one.id for one in examples] == ["popular-1", "popular-3"]
    assert len(problems) == len(BAD) >= 10
    for line, (problem, (_, message)) in enumerate(zip(problems, BAD, strict=True), start=2):
        assert str(problem).startswith(f"line {line}: ")
        assert message in str(problem)


@pytest.mark.parametrize("name", ["coco_pope.json", "random_or_popular.json", "randomised.json"])
def test_the_strategy_must_stand_in_the_name(write_lines: WriteLines, name: str) -> None:
    with pytest.raises(DataError, match="random, popular, adversarial"):
        load_dataset(write_lines(name, [*PUBLISHED]))
