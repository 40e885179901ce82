"""Rules, panels, documents and code speak of the same metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.grafana.boards import BOARDS
from probes.model.folder import read_bundle
from probes.monitor.drift import RiskHistogram
from probes.signals.catalogue import SCORES
from probes.types import Interval, Reason
from service.app import create_app
from service.engines.fake import FakeEngine
from service.gate.standing import Standing
from service.settings import PREFIX, Settings, embedded

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "metrics.md"
RULES = sorted((ROOT / "helm" / "rules").glob("*.yaml"))
OURS = re.compile(r"\bvlm_gate_[a-z0-9_]+")
RECORDED = re.compile(r"\bvlm_gate:[a-z0-9_]+:[a-z0-9_]+")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> CollectorRegistry:
    """Of a service that has something to say on every metric."""
    settings = Settings(
        engine="fake",
        state_folder=tmp_path_factory.mktemp("state"),
        audit_rate=0.1,
        review_capacity_per_hour=10,
        metrics_slices=("line:1",),
        drift_window=100,
    )
    bundle = read_bundle(Path(embedded("bundles", "llava")))
    shared = replace(bundle.attempts[-3], observed={"camera 7": Interval(0.1, 0.0, 0.3)})
    bundle = replace(bundle, attempts=(*bundle.attempts, shared))
    state = create_app(settings, FakeEngine(), bundle).state
    gate = state.gate
    gate.engine_started = gate.parity = True
    promise = gate.record_keeping.promise
    known = Interval(0.5, 0.4, 0.6)
    promise.standing = Standing(known, dict.fromkeys(SCORES, known), 3, 1, 0.3)
    assert isinstance(promise.drift.reference, RiskHistogram)
    for number in range(settings.drift_window):
        promise.observe(0.1, str(number))
    registry: CollectorRegistry = state.telemetry.registry
    return registry


def exported(registry: CollectorRegistry) -> Iterator[str]:
    """The names of the samples, as a query writes them."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    for family in registry.collect():
        name = family.name + ("_info" if family.type == "info" else "")
        yield from (name + suffix for suffix in suffixes.get(family.type, ("",)))


def told(registry: CollectorRegistry) -> Iterator[str]:
    """The names of the metrics, as they are documented."""
    for family in registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        yield family.name + suffix


def test_every_exported_metric_is_documented_and_nothing_else(registry):
    rows = re.findall(r"^\| `(\w+)", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    ours = {name for name in told(registry) if name.startswith("vlm_gate_")}
    assert {name for name in rows if name != "process_"} == ours
    assert {name.split("_")[0] for name in told(registry)} == {"vlm", "process"}


def test_the_documented_labels_are_the_exported_ones(registry):
    rows = re.findall(r"^\| `(\w+)\{(.*?)\}`", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: set(labels.split(",")) for name, labels in rows}
    assert len(documented) >= 10
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in documented:
                assert set(sample.labels) - {"le"} == documented[sample.name], sample.name


def test_every_name_in_the_code_was_exported_here(registry):
    """So that no metric hides behind a condition that the fixture does not meet."""
    files = [path for path in (ROOT / "service").rglob("*.py") if "engines" not in path.parts]
    source = "".join(path.read_text() for path in files)
    families = {family.name for family in registry.collect()}
    written = set(re.findall(r'"(vlm_gate_[a-z0-9_]+)"', source))
    assert written == {name for name in families if name.startswith("vlm_gate_")}


def rules() -> list[dict[str, str]]:
    documents = [yaml.safe_load(path.read_text()) for path in RULES]
    return [rule for text in documents for group in text["groups"] for rule in group["rules"]]


def test_every_metric_in_a_rule_or_panel_exists_in_the_code(registry):
    expressions = [rule["expr"] for rule in rules()]
    expressions += [query.expr for board in BOARDS for p in board.panels for query in p.queries]
    named = {name for text in expressions for name in OURS.findall(text)}
    assert len(named) > 25
    assert named <= set(exported(registry))


def test_every_recorded_series_that_is_used_is_recorded():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = [rule["expr"] for rule in rules()]
    used += [query.expr for board in BOARDS for p in board.panels for query in p.queries]
    named = {name for text in used for name in RECORDED.findall(text)}
    assert named <= recorded
    assert recorded - named <= {"vlm_gate:answer_seconds:p50_5m", "vlm_gate:answer_seconds:p99_5m"}


def test_every_decision_is_there_from_the_start(registry):
    """rate() does not see the step from nothing to one."""
    found = [
        s for f in registry.collect() for s in f.samples if s.name == "vlm_gate_decisions_total"
    ]
    assert {(s.labels["decision"], s.labels["reason"]) for s in found} >= {
        ("accept", "risk_below_threshold"),
        ("escalate", "signal_unavailable"),
        ("reject", "risk_above_reject"),
    }
    assert len(found) == len(get_args(Reason))


def test_runbooks_and_guides_name_only_what_there_is(registry):
    pages = [*(ROOT / "deploy" / "runbooks").glob("*.md"), DOCUMENT, ROOT / "docs" / "operate.md"]
    text = "".join(path.read_text() for path in pages)
    families = {family.name for family in registry.collect()}
    assert set(OURS.findall(text)) <= {*exported(registry), *families}
    settings = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(re.findall(r"\bVLM_GATE_[A-Z0-9_]+", text)) <= settings
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert set(RECORDED.findall(text)) <= recorded
