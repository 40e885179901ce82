"""The incident with the real programs, its durations a twentieth of those deployed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.grafana.boards import BOARDS
from deploy.incident.scale import scale_rules, scaled

ROOT = Path(__file__).parents[2]
FACTOR = 0.05


@pytest.mark.parametrize(
    ("duration", "factor", "expected"),
    [
        ("5m", 1, "300000ms"),
        ("5m", 0.05, "15000ms"),
        ("15s", 0.05, "1000ms"),
        ("1d", 0.5, "43200000ms"),
    ],
)
def test_durations_are_scaled_down_to_a_second(duration, factor, expected):
    assert scaled(duration, factor) == expected


def test_rules_are_scaled_and_else_as_deployed(tmp_path):
    """With every duration taken out, deployed and scaled rules are the same."""
    durations = re.compile(r"\[\w+\]")
    for path in scale_rules(tmp_path, FACTOR):
        deployed = yaml.safe_load((ROOT / "helm" / "rules" / path.name).read_text())
        written = yaml.safe_load(path.read_text())
        for document in (deployed, written):
            for rule in (rule for group in document["groups"] for rule in group["rules"]):
                rule["for"] = "for" in rule
                rule["expr"] = durations.sub("[]", rule["expr"])
        assert written == deployed


def test_the_pages_come_in_time_and_end_and_every_panel_has_data(tmp_path):
    """See deploy/incident/run.py for the story; it takes about two minutes."""
    report = tmp_path / "incident.md"
    options = {
        "factor": FACTOR, "rate": 15, "window": 150, "audit-rate": 0.6,
        "out": tmp_path, "report": report,
    }  # fmt: skip
    told = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    run = subprocess.run(
        [sys.executable, "-m", "deploy.incident.run", *told],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert run.stdout, run.stderr
    result = json.loads(run.stdout)
    assert result["broken"] == []
    paged = {(page["alert"], page["status"]) for page in result["pages"]}
    for alert in ("VlmGateRiskShifted", "VlmGateEngineDown", "VlmGateServiceDown"):
        assert {(alert, "firing"), (alert, "resolved")} <= paged
    assert result["replies"]["accept"] > 0
    assert all(reason for reason in result["panels_excluded"].values())
    assert "Promises broken: none." in report.read_text()
    pictures = {path.stem: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert pictures.keys() == {board.name for board in BOARDS}
    assert all(20_000 < size < 600_000 for size in pictures.values()), pictures
