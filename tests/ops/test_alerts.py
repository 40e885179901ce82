"""Every alert fires when it should, not before its time and not otherwise; by the real promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ops.alert_cases import CASES, UP

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "helm" / "rules").glob("*.yaml"))
SEVERITIES = {"critical", "warning"}
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it; a machine without it is told how to get it."""
    found = shutil.which("promtool")
    assert found, "promtool is missing: run make system, or install Prometheus"
    return subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def minutes(rule: dict[str, Any]) -> int:
    """How long its condition must hold."""
    number, unit = re.fullmatch(r"(\d+)([mh])", rule.get("for", "0m")).groups()
    return int(number) * {"m": 1, "h": 60}[unit]


def run_test(
    folder: Path, series: dict[str, str], expected: list[tuple[str, int, list[Any]]]
) -> None:
    """Give promtool the series, and which alerts are to fire: (name, minute, the alerts)."""
    path = folder / "test.yaml"
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": text} for name, text in series.items()],
        "alert_rule_test": [
            {"alertname": alert, "eval_time": f"{minute}m", "exp_alerts": told}
            for alert, minute, told in expected
        ],
    }
    document = {
        "rule_files": [str(rules) for rules in RULES],
        "evaluation_interval": "1m" if max(minute for _, minute, _ in expected) < 200 else "10m",
        "tests": [test],
    }
    path.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules():
    done = promtool("check", "rules", *RULES)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_fires(case, alerts, tmp_path):
    """With the page's words; not while its time has not passed."""
    rule = alerts[case.alert]
    told = {
        "exp_labels": {
            "job": "vlm-gate",
            "severity": rule["labels"]["severity"],
            **case.labels,
        },
        "exp_annotations": {
            "summary": case.summary,
            "description": rule["annotations"]["description"],
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }
    expected: list[tuple[str, int, list[Any]]] = [(case.alert, case.at, [told])]
    if (wait := minutes(rule)) > 0:
        expected.append((case.alert, wait - 1, []))
    run_test(tmp_path, {**UP, **case.fires}, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_does_not_fire_otherwise(case, alerts, tmp_path):
    """Nor does any other alert under series that are near to its limit."""
    expected: list[tuple[str, int, list[Any]]] = [(alert, case.at, []) for alert in alerts]
    run_test(tmp_path, {**UP, **case.quiet}, expected)


def test_every_alert_has_a_case(alerts):
    assert {case.alert for case in CASES} == set(alerts)


def test_every_alert_says_what_is_needed(alerts):
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"].endswith(f"/runbooks/{name}.md"), name
        assert "{{" not in rule["annotations"]["description"], name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert(alerts):
    folder = ROOT / "deploy" / "runbooks"
    pages = {path.stem: path.read_text() for path in folder.glob("VlmGate*.md")}
    assert set(pages) == set(alerts)
    for name, text in pages.items():
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS, name
        for section in text.split("\n## ")[1:]:
            assert len(section.split()) > 8, f"{name}: says too little: {section}"


def test_prometheus_takes_its_configuration():
    done = promtool("check", "config", ROOT / "deploy" / "prometheus" / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SUCCESS") >= 3  # the configuration and both files of rules


def test_alertmanager_takes_its_configuration():
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    amtool = shutil.which("amtool")
    assert amtool, "amtool is missing: run make system, or install Alertmanager"
    done = subprocess.run(
        [amtool, "check-config", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
