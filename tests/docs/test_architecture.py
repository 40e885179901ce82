"""docs/architecture.md names the folders and files that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def folders(package: str) -> set[str]:
    """Every folder of a package that holds modules, such as ``service/gate/``."""
    found = {path.parent for path in (ROOT / package).rglob("*.py")}
    names = {f"{path.relative_to(ROOT).as_posix()}/" for path in found}
    return {name for name in names if not name.endswith("/versions/")}  # Alembic's own folder


@pytest.mark.parametrize("package", ["service", "probes"])
def test_every_folder_has_a_row_and_every_row_a_folder(package: str) -> None:
    rows = re.findall(rf"^\| `({package}/[\w/]*)` \| \S.+ \|$", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(folders(package))


@pytest.mark.parametrize("text", [TEXT, README], ids=["architecture.md", "README.md"])
def test_every_path_that_is_named_exists(text: str) -> None:
    named = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_page_of_the_layers_names_every_folder_of_the_first_level() -> None:
    for package in ("service", "probes"):
        (line,) = re.findall(rf"^- `{package}/`: (.+)\.$", TEXT, re.MULTILINE)
        listed = re.findall(r"\w+", line)
        inside = {Path(name).parts[1] for name in folders(package) if name.count("/") > 1}
        modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
        assert sorted(listed) == sorted(inside | modules)
