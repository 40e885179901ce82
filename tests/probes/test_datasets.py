from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probes.datasets import load_image, load_jsonl
from probes.errors import DataError

GOOD = {
    "id": "a",
    "image": "a.png",
    "question": "Is there a screw?",
    "references": ["yes"],
    "rule": "yes_no",
}


def write(folder: Path, *records: Any) -> Path:
    Image.new("RGB", (4, 3), (10, 20, 30)).save(folder / "a.png")
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    (folder / "d.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "d.jsonl"


def test_a_good_record_becomes_an_example(tmp_path: Path) -> None:
    (example,), problems = load_jsonl(write(tmp_path, {**GOOD, "slice": "line 3"}))
    assert problems == ()
    assert (example.kind, example.slice) == ("yes_no", "line 3")
    assert load_image(example.image_path).shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ({**GOOD, "id": ""}, "id:"),
        ({**GOOD, "question": 3}, "question:"),
        ({**GOOD, "references": []}, "references:"),
        ({**GOOD, "references": "yes"}, "references:"),
        ({**GOOD, "references": ["maybe"]}, "references:"),
        ({**GOOD, "rule": "equal"}, "rule:"),
        ({**GOOD, "image": "gone.png"}, "image:"),
        ({**GOOD, "camera": "A"}, "camera: unknown field"),
        (GOOD, "stands on line 1"),
    ],
)
def test_a_bad_record_is_named_by_its_line_and_the_others_stay(
    tmp_path: Path, bad: Any, message: str
) -> None:
    examples, (problem,) = load_jsonl(write(tmp_path, GOOD, "", bad, {**GOOD, "id": "b"}))
    assert [one.id for one in examples] == ["a", "b"]
    assert str(problem).startswith("line 3: ")
    assert message in str(problem)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_jsonl(tmp_path / "none.jsonl")


def test_images_that_would_have_to_be_guessed_at_are_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2)).save(tmp_path / "c.jpg")
    (tmp_path / "t.png").write_text("no image")
    for name, message in (("c.jpg", "CMYK"), ("t.png", "cannot be decoded")):
        with pytest.raises(DataError, match=message):
            load_image(tmp_path / name)
    Image.new("L", (2, 2), 7).save(tmp_path / "g.png")
    assert np.array_equal(load_image(tmp_path / "g.png"), np.full((2, 2, 3), 7))
