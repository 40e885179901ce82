"""The examples of rules in docs/datasets.md hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from probes.labels import check_references, judge
from probes.labels.rule import LABEL_RULES, parse_rule

DOCUMENT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\{.*\})` \| (.*) \| (.*) \|$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize(("fields", "right", "wrong"), ROWS)
def test_each_row_of_the_table(fields: str, right: str, wrong: str) -> None:
    line: dict[str, Any] = json.loads(fields)
    rule = parse_rule(line.get("rule", "match"), line.get("aliases"))
    check_references(line["answers"], rule)
    assert not judge(right, line["answers"], rule).wrong
    assert judge(wrong, line["answers"], rule).wrong


def test_every_rule_has_a_row() -> None:
    rules = {parse_rule(json.loads(fields).get("rule", "match")).name for fields, _, _ in ROWS}
    assert rules == {*LABEL_RULES} - {"ignore"}


def test_the_python_example_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (example,) = (block for block in blocks if "judge(" in block)
    exec(compile(example, "docs/datasets.md", "exec"), {})
