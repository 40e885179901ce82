"""What the service tells Prometheus. Base units; no label ever holds what a user sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from probes.types import AttentionConcentration, Domain, Missing, SelfConsistency, Signals

if TYPE_CHECKING:
    from service.pipeline import Outcome

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = tuple(step / 10 for step in range(1, 11))
RISKS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NOT_A_FAILURE = Missing("not_requested")


class Stages:
    """Seconds that one request spent in each stage, and when: ``spans``, in Unix nanoseconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.spans: list[tuple[str, int, int]] = []
        self._started = perf_counter()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to ``stage``."""
        started = perf_counter()
        try:
            yield
        finally:
            self.add(stage, perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds that end now to ``stage``."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        now = time_ns()
        self.spans.append((stage, now - round(seconds * 1e9), now))

    @property
    def total(self) -> float:
        """Seconds since the request came."""
        return perf_counter() - self._started


class Telemetry:
    """The service's metrics, in a registry of their own.

    Args:
        thresholds: ``accept_below`` and ``reject_above`` in force, where there are any; the risk
            histogram has an edge at each.
        build: version, model, bundle and engine.
    """

    def __init__(self, thresholds: Mapping[str, float], build: Mapping[str, str]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "vlm_gate_requests", "HTTP requests answered", ["route", "code"], registry=registry
        )
        self.decisions = Counter(
            "vlm_gate_decisions",
            "Decisions on answers",
            ["decision", "reason", "mode"],
            registry=registry,
        )
        self.risk = Histogram(
            "vlm_gate_risk_score",
            "Calibrated probability that an answer is wrong",
            buckets=sorted({*RISKS, *thresholds.values()}),
            registry=registry,
        )
        self.top30_mass = Histogram(
            "vlm_gate_attention_top30_mass",
            "Share of the image's attention on its 30 % most attended tokens",
            buckets=SHARES,
            registry=registry,
        )
        self.spatial_entropy = Histogram(
            "vlm_gate_attention_spatial_entropy",
            "Entropy of the attention over the image, nats",
            buckets=[step / 2 for step in range(1, 17)],
            registry=registry,
        )
        self.agreement = Histogram(
            "vlm_gate_self_consistency_agreement",
            "Share of sampled answers equal to the greedy one",
            buckets=SHARES,
            registry=registry,
        )
        self.consistency_runs = Counter(
            "vlm_gate_self_consistency_runs",
            "Requests that sampled answers: completed, stopped_early or failed",
            ["outcome"],
            registry=registry,
        )
        self.signal_failures = Counter(
            "vlm_gate_signal_failures",
            "Signals that were wanted and could not be had",
            ["signal", "reason"],
            registry=registry,
        )
        self.stage_duration = Histogram(
            "vlm_gate_stage_duration_seconds",
            "Time of an answered request by stage",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.rejected = Counter(
            "vlm_gate_rejected_requests",
            "Requests that got a problem document instead of an answer",
            ["reason"],
            registry=registry,
        )
        self.out_of_domain = Counter(
            "vlm_gate_out_of_domain",
            "Answers about requests outside the domain of validity",
            registry=registry,
        )
        self.records_dropped = Counter(
            "vlm_gate_records_dropped", "Answers that are not in the records", registry=registry
        )
        self.images_dropped = Counter(
            "vlm_gate_images_dropped", "Images for review that could not be kept", registry=registry
        )
        self._gauge("vlm_gate_threshold", "Thresholds on the risk in force", thresholds, "kind")
        Info("vlm_gate_build", "What runs", registry=registry).info(dict(build))

    def _gauge(self, name: str, text: str, values: Mapping[str, float], label: str) -> None:
        gauge = Gauge(name, text, [label], registry=self.registry)
        for key, value in values.items():
            gauge.labels(key).set(value)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when scraped."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def observe(self, outcome: Outcome, stages: Stages, mode: str) -> None:
        """Count one answered request; called once, at its end."""
        decision = outcome.decision
        self.decisions.labels(decision.decision, decision.reason, mode).inc()
        if not isinstance(outcome.assessment.score, Missing):
            self.risk.observe(outcome.assessment.score)
        self._observe_signals(outcome.assessment.signals)
        for stage, seconds in stages.seconds.items():
            self.stage_duration.labels(stage).observe(seconds)
        self.stage_duration.labels("total").observe(stages.total)

    def _observe_signals(self, signals: Signals) -> None:
        for field in fields(Signals):
            match getattr(signals, field.name):
                case Missing() as missing if missing != NOT_A_FAILURE:
                    self.signal_failures.labels(field.name, missing.reason).inc()
                    if field.name == "self_consistency":
                        self.consistency_runs.labels("failed").inc()
                case AttentionConcentration() as attention:
                    self.top30_mass.observe(attention.top30_mass)
                    self.spatial_entropy.observe(attention.spatial_entropy)
                case SelfConsistency() as consistency:
                    self.agreement.observe(consistency.agreement)
                    ended = "stopped_early" if consistency.stopped_early else "completed"
                    self.consistency_runs.labels(ended).inc()
                case Domain(inside=False):
                    self.out_of_domain.inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
