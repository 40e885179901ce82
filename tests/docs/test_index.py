"""docs/index.md leads to every page, the title of each decision is its own, and no page names a
file that there is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
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


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for path in re.findall(r"`((?:service|probes|tests|deploy|helm)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_times_of_decision_21_are_those_measured() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "logistic_path.json").read_text())
    (page,) = (DOCS / "decisions").glob("0021-*")
    for table in measured["tables"]:
        fits = table["ours"], table["scikit_learn"]
        cells = [
            f"{table['width']:,}",
            table["columns"],
            *(str(fit["cpu_seconds"]) for fit in fits),
            *(f"{fit['gradient']:.1e}" for fit in fits),
        ]
        assert f"| {' | '.join(cells)} |" in page.read_text(encoding="utf-8")
