from __future__ import annotations

from pathlib import Path

import pytest

from probes.data.datasets import detect_format, load_dataset
from probes.errors import DataError


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("d.csv", "", "csv"),
        ("d.CSV", "", "csv"),
        ("d.json", '{"image": "a", "question": "b", "answers": []}', "jsonl"),
        ("d.json", '{"question_id": 1, "image": "a", "text": "b", "label": "c"}', "pope"),
        ("d.jsonl", '{\n[]\n{"question_id": 1, "image": "a", "label": "c"}', "pope"),
        ("d.jsonl", '{"image": "a", "question": "\\"questions\\": [?"}', "jsonl"),
        ("d.json", '{"info": {}, "questions": [' + "{}, " * 50_000 + "{}]}", "vqa"),
        ("d.json", '{\n "questions":\n [\n{"image": 1}\n]}', "vqa"),
    ],
)
def test_the_format_is_told_by_the_content(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    (tmp_path / name).write_text(content)
    assert detect_format(tmp_path / name) == expected


def test_a_format_that_cannot_be_told(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("[]\n")
    with pytest.raises(DataError, match=r"give --format jsonl\|csv\|pope\|vqa"):
        detect_format(tmp_path / "d.json")
    _, (problem,) = load_dataset(tmp_path / "d.json", format="jsonl")
    assert str(problem) == "line 1: not a JSON object"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["none", "d.jsonl"])
def test_a_source_of_images_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.jsonl").write_text('{"image": "a"}')
    with pytest.raises(DataError, match="images: "):
        load_dataset(tmp_path / "d.jsonl", images=tmp_path / name)
