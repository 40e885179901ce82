"""The deployed configurations with every duration made shorter, and addresses of our own.

Nothing else changes: expressions, thresholds, labels and annotations stay as they are deployed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SHORTEST_SECONDS = 1.0
"""As often as Prometheus is asked to look: shorter waits would say nothing."""
SAMPLES = 4
"""A window of a rate is to hold so many scrapes."""


def scaled(duration: str, factor: float, least: float = SHORTEST_SECONDS) -> str:
    """``5m`` times 0.05 -> ``15000ms``."""
    seconds = int(duration[:-1]) * UNITS[duration[-1]] * factor
    return f"{round(1000 * max(seconds, least))}ms"


def scale_rules(folder: Path, factor: float) -> list[Path]:
    """Write all rules into ``folder``; a factor of 1 leaves them as they are."""
    written = []
    for path in sorted((ROOT / "helm" / "rules").glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = scaled(rule["for"], factor)
                rule["expr"] = re.sub(
                    r"\[(\d+[smhd])\]",
                    lambda found: f"[{scaled(found[1], factor, SAMPLES * SHORTEST_SECONDS)}]",
                    rule["expr"],
                )
        written.append(folder / path.name)
        written[-1].write_text(yaml.safe_dump(document))
    return written


def prometheus_config(
    folder: Path, factor: float, *, target: str, alertmanager: str, rules: list[Path]
) -> Path:
    """deploy/prometheus/prometheus.yml for these addresses."""
    document = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    for name in ("scrape_interval", "evaluation_interval"):
        document["global"][name] = scaled(document["global"][name], factor)
    document["rule_files"] = [str(path) for path in rules]
    document["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
    (job,) = document["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    return _write(folder / "prometheus.yml", document)


def alertmanager_config(folder: Path, factor: float, *, webhook: str) -> Path:
    """deploy/alertmanager/alertmanager.yml with a webhook of our own."""
    document = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    route = document["route"]
    for name in ("group_wait", "group_interval", "repeat_interval"):
        route[name] = scaled(route[name], factor)
    for receiver in document["receivers"]:
        (hook,) = receiver["webhook_configs"]
        hook["url"] = f"{webhook}/{receiver['name']}"
    return _write(folder / "alertmanager.yml", document)


def _write(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path
