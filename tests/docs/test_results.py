"""The pages in docs/results are what the commands make of the committed JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.judge.evaluate import EVALUATION
from probes.report.report import MARKDOWN, report
from probes.reproduce.reproduce import PAGE, REPRODUCTION, merge

RESULTS = Path(__file__).parents[2] / "docs" / "results"
JUDGED = sorted(path.parent for path in RESULTS.glob(f"*/{EVALUATION}"))
REPRODUCED = sorted(RESULTS.glob(f"*/{REPRODUCTION}"))


def test_there_are_results() -> None:
    assert JUDGED


@pytest.mark.parametrize("folder", JUDGED, ids=lambda folder: folder.name)
def test_page_is_the_report_of_the_committed_evaluation(folder: Path, tmp_path: Path) -> None:
    again = report(folder, tmp_path / "again") / MARKDOWN
    page = folder.with_suffix(".md").read_text(encoding="utf-8")
    assert again.read_text(encoding="utf-8") == page, f"vlm-gate report {folder}"


def test_reproduction_is_the_merge_of_the_committed_ones(tmp_path: Path) -> None:
    page = RESULTS / PAGE
    assert page.exists() == bool(REPRODUCED), f"{page}: neither without the other"
    if REPRODUCED:
        merge(REPRODUCED, tmp_path / PAGE)
        again = (tmp_path / PAGE).read_text(encoding="utf-8")
        assert again == page.read_text(encoding="utf-8"), "vlm-gate reproduce --merge"
