"""The summary over splits, and that the decision record says what the results say."""

from __future__ import annotations

import json

import pytest

from benchmarks.fusion_by_kind import PLAIN, summarise
from benchmarks.host import ROOT
from probes.fit.fusion import BY_KIND

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("fusion_by_kind_*.json"))
DECISION = "0014-fusion-by-kind-and-what-a-report-must-show.md"


def test_the_summary_holds_means_and_the_spread_of_what_is_added() -> None:
    rows = [
        {PLAIN: {"auroc": 0.8}, BY_KIND: {"auroc": 0.84}, "chosen": BY_KIND},
        {PLAIN: {"auroc": 0.9}, BY_KIND: {"auroc": 0.88}, "chosen": PLAIN},
    ]
    found = summarise(rows)
    assert (found["splits"], found["chosen"]) == (2, 1)
    assert found["auroc"][PLAIN] == pytest.approx(0.85)
    assert found["auroc"]["added"] == pytest.approx(0.01)
    assert found["auroc"]["added_least"] == pytest.approx(-0.02)
    assert found["auroc"]["added_largest"] == pytest.approx(0.04)


def test_the_decision_quotes_the_results() -> None:
    page = (ROOT / "docs" / "decisions" / DECISION).read_text(encoding="utf-8")
    assert RESULTS
    for path in RESULTS:
        found = json.loads(path.read_text(encoding="utf-8"))
        cells = [found["model"]]
        for key, digits in (("auroc", 3), ("coverage_at_0.05", 3), ("coverage_at_0.02", 3)):
            row = found[key]
            cells.append(
                f"{row[PLAIN]:.{digits}f} -> {row[BY_KIND]:.{digits}f}, {row['added']:+.{digits}f} "
                f"({row['added_least']:+.{digits}f} to {row['added_largest']:+.{digits}f})"
            )
        cells.append(f"{found['chosen']} of {found['splits']}")
        assert f"| {' | '.join(cells)} |" in page, path.name
