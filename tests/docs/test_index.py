"""docs/index.md leads to every page, and the title of each decision is its own."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "index.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[([^\]]+)\]\(([^)#]+\.md)\)", TEXT)


def test_every_page_is_listed_once() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}
    listed = [target for _, target in LINKS if not target.startswith("../")]
    assert sorted(listed) == sorted(pages)


def test_decisions_are_numbered_and_named_as_they_are() -> None:
    rows = re.findall(r"^(\d+)\. \[(.+)\]\((decisions/(\d{4})-.+\.md)\)$", TEXT, re.MULTILINE)
    assert len(rows) == len(list((DOCS / "decisions").iterdir()))
    for place, title, target, number in rows:
        assert int(place) == int(number), target
        heading = (DOCS / target).read_text(encoding="utf-8").partition("\n")[0]
        assert heading.startswith(f"# {title}"), heading
