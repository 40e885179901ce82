"""``certify`` ends with 3 where it did its work and nothing can be promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from probes.bundle import Bundle
from service.cli import app


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
    written = Bundle.load(out)
    assert written.alpha == float(alpha)
    assert bool(written.certificates) is (status == 0)
    assert ("no certificate: no threshold passed at alpha 0.001" in done.stderr) is (status == 3)


def test_a_bundle_without_a_certificate_is_evaluated_and_reported(run: Any, tmp_path: Path) -> None:
    """The reports are written still, and say what was tested."""
    store, bundle = str(run.root / "store"), tmp_path / "certified"
    steps = (
        ["certify", store, str(run.root / "trained"), "--out", str(bundle), "--alpha", "0.001"],
        ["evaluate", store, str(bundle), "--out", str(tmp_path / "judged")],
        ["report", str(tmp_path / "judged"), "--out", str(tmp_path / "report")],
    )
    assert [CliRunner().invoke(app, step).exit_code for step in steps] == [3, 0, 0]
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "Accept nothing: no threshold passed at an error rate of 0%" not in page
    assert "Accept nothing: no threshold passed at an error rate of 0.1%" in page
