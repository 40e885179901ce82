"""docs/security.md: each of its promises names a test, and each of these tests exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
PROMISES = re.findall(r"^- (.+?)(?=\n- |\n\n|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)


def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}  # fmt: skip


def rows(path: Path, name: str) -> int:
    """Entries of a dictionary that a test module defines at its top."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = any(isinstance(t, ast.Name) and t.id == name for t in targets)
        if named and isinstance(node.value, ast.Dict):  # type: ignore[attr-defined]
            return len(node.value.keys)  # type: ignore[attr-defined]
    raise AssertionError(f"{path.name} has no table {name}")


def test_the_table_of_attacks_counts_what_is_tested():
    listed = re.findall(r"^\|.*\| (\d+) \| `(test_\w+\.py)::(\w+)` \|$", DOCUMENT, re.MULTILINE)
    assert sum(int(count) for count, *_ in listed) >= 150
    for count, file, name in listed:
        assert (name, rows(HERE / file, name)) == (name, int(count))


def test_every_promise_names_its_test():
    assert len(PROMISES) >= 35
    for promise in PROMISES:
        assert re.search(r"`(test_\w+\.py::test_\w+|tests/[\w/]+\.py)`", promise), promise


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", DOCUMENT)
    assert all(name in defined(HERE / file) for file, name in named)
    for path in re.findall(r"`(tests/[\w/]+\.py)`", DOCUMENT):
        assert (ROOT / path).is_file()
