"""docs/datasets.md: its files are read as it says, and its tables name what the code takes.

The rows of right and wrong answers are run by ``tests/probes/labels/test_rules_document.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from probes.data.datasets.plain import COLUMNS
from probes.errors import DataError
from probes.labels.dates import DateOrder
from probes.labels.rule import LABEL_RULES, parse_rule

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
TEXT = PAGE.read_text(encoding="utf-8")
VALUES = {"tolerance": 1, "relative": 0.1, "options": ["red", "blue"], "order": "dmy"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_files_are_read_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (lines,), (sheet,) = blocks("jsonl"), blocks("csv")
    Path("plates.jsonl").write_text(lines)
    Path("plates.csv").write_text(sheet)
    for name in set(re.findall(r"images/\w+\.png", lines + sheet)):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(name)
    code = "".join(block for block in blocks("python") if "judge(" not in block)
    assert code.count("load_dataset(") == 2
    exec(compile(code, PAGE.name, "exec"), {})


def test_every_field_has_a_row() -> None:
    (body,) = re.findall(r"^\| field \|.*\n.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| (yes)? ?\| ", body, re.MULTILINE)
    assert {name for name, _ in rows} == {*COLUMNS, "references"}
    assert {name for name, needed in rows if needed} == {"image", "question", "answers"}


def test_every_rule_has_a_row_with_what_it_takes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([`\w, ]*?) ?\| (yes|no) \|$", TEXT, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(LABEL_RULES)
    for name, listed, aliases in rows:
        needed = {"options": VALUES["options"]} if name == "choice" else {}
        for parameter, value in VALUES.items():
            takes(name, {**needed, parameter: value}, f"`{parameter}`" in listed)
        takes(name, {**needed, "aliases": {"two": ["a pair"]}}, aliases == "yes")


def takes(rule: str, parameters: dict[str, object], wanted: bool) -> None:
    if wanted:
        assert parse_rule({"rule": rule, **parameters}).name == rule
    else:
        with pytest.raises(DataError, match="does not take it"):
            parse_rule({"rule": rule, **parameters})


def test_the_orders_of_a_date_are_named() -> None:
    assert " or ".join(f"`{order}`" for order in get_args(DateOrder)) in TEXT
