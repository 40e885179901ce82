"""The gauges of the promise; a number that is not known is left out."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from probes.types import Interval, Missing
from service.gate.promise import Promise
from service.gate.standing import Standing


def promise_gauges(promise: Promise) -> Iterator[Metric]:
    """What the audits say, how old that is, and how far the risks have drifted."""
    yield from _standing(promise.standing)
    yield GaugeMetricFamily(
        "vlm_gate_promise_read_age_seconds",
        "Seconds since the audits were last read; nothing is accepted above 300",
        promise.age,
    )
    ratio = Missing("no_reference") if promise.drift is None else promise.drift.ratio()
    if not isinstance(ratio, Missing):
        yield GaugeMetricFamily(
            "vlm_gate_risk_drift_ratio",
            "Drift of the risks against the bundle's reference; about 1 without drift",
            ratio,
        )


def _standing(standing: Standing) -> Iterator[Metric]:
    error = GaugeMetricFamily(
        "vlm_gate_audit_error_ratio",
        "Error rate of accepted answers by random audits, over the whole past",
        labels=["bound"],
    )
    auroc = GaugeMetricFamily(
        "vlm_gate_signal_auroc",
        "How well each signal ranks wrong above right among audited answers",
        labels=["signal", "bound"],
    )
    _fill(error, [], standing.error)
    for name, interval in standing.auroc.items():
        _fill(auroc, [name], interval)
    yield from (error, auroc)
    yield GaugeMetricFamily(
        "vlm_gate_audits_awaiting", "Audits that nobody has judged", standing.awaiting
    )
    yield GaugeMetricFamily("vlm_gate_audits_judged", "Audits with an outcome", standing.judged)
    if standing.evidence is not None:
        yield GaugeMetricFamily(
            "vlm_gate_promise_evidence_ratio",
            "Evidence of the audits against the promise, over what voids it; 1 is void",
            standing.evidence,
        )


def _fill(family: GaugeMetricFamily, labels: list[str], interval: Interval | Missing) -> None:
    if not isinstance(interval, Missing):
        for bound in ("estimate", "lower", "upper"):
            family.add_metric([*labels, bound], getattr(interval, bound))
