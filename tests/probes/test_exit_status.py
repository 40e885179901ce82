"""``certify`` ends with 3 where it did its work and nothing can be promised."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from probes.guarantee.certify import certify
from probes.judge.evaluate import evaluate
from probes.model.folder import read_bundle
from probes.report.report import report
from service.cli import app

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("alpha", "status"), [("0.1", 0), ("0.001", 3)])
def test_certify_says_whether_anything_can_be_promised(
    run: Any, tmp_path: Path, alpha: str, status: int
) -> None:
    out = tmp_path / "certified"
    done = CliRunner().invoke(
        app,
        [
            "certify", str(run.root / "store"), str(run.root / "trained"), "--out", str(out),
            "--alpha", alpha,
        ],
    )  # fmt: skip
    assert done.exit_code == status, done.output
    written = read_bundle(out)
    assert written.alpha == float(alpha)
    assert bool(written.certificates) is (status == 0)
    assert ("no certificate: no threshold passed at alpha 0.001" in done.stderr) is (status == 3)


def test_a_bundle_without_a_certificate_is_evaluated_and_reported(run: Any, tmp_path: Path) -> None:
    """The reports are written still, and say that nothing is accepted."""
    none = certify(run.store, run.trained, tmp_path / "none", created=CREATED, alpha=0.001)
    assert not none.certificates
    evaluate(run.store, none, tmp_path / "judged", resamples=20)
    page = report(tmp_path / "judged", tmp_path / "report") / "report.md"
    text = page.read_text(encoding="utf-8")
    assert "Accept nothing: no threshold passed at an error rate of 0.1%" in text
    assert "Accepted answers of the test split" not in text
