"""What the service tells Prometheus. Base units; no label ever holds what a user sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from probes.types import (
    AttentionConcentration,
    Domain,
    DomainPart,
    ImageCondition,
    Missing,
    Reason,
    Scope,
    SelfConsistency,
    Signals,
    Verdict,
)

if TYPE_CHECKING:
    from service.gate.ask import Outcome
    from service.gate.stages import Stages

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = tuple(step / 10 for step in range(1, 11))
RISKS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SIGNALS = tuple(field.name for field in fields(Signals))
VERSIONS = frozenset(("0.0.1", "0.0.4", "1.0.0"))
"""Of the formats that scrapers may ask for."""
NOT_A_FAILURE = "not_requested"
NOT_ESCALATED: Mapping[str, Verdict] = {
    "risk_below_threshold": "accept",
    "risk_above_reject": "reject",
}
"""What a reason decides, if it does not escalate."""


class Telemetry:
    """What happened, counted, in a registry of its own. Each metric: docs/metrics.md.

    The unit is one process: a replica is one process, and Prometheus adds replicas up.

    Args:
        thresholds: ``accept_below`` and ``reject_above`` in force, where there are any; the risk
            histogram has an edge at each.
        mode: ``enforce`` or ``shadow``.
        slices: metadata whose decisions are counted apart, each ``name:value``.
    """

    def __init__(
        self, thresholds: Mapping[str, float], mode: str = "enforce", slices: Sequence[str] = ()
    ) -> None:
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
        for reason in get_args(Reason):  # a first count must not go unseen by rate()
            self.decisions.labels(NOT_ESCALATED.get(reason, "escalate"), reason, mode)
        self.slice_decisions = Counter(
            "vlm_gate_slice_decisions",
            "Decisions on answers with the metadata that VLM_GATE_METRICS_SLICES lists",
            ["slice", "decision"],
            registry=registry,
        )
        self._slices = {(name, value): f"{name}:{value}" for name, value in map(_pair, slices)}
        for label in self._slices.values():
            for verdict in get_args(Verdict):
                self.slice_decisions.labels(label, verdict)
        self.risk = _risk_histogram(registry, thresholds)
        self.accepted_scope = Counter(
            "vlm_gate_accepted_scope",
            "Accepted answers by whose answers their certificate is about",
            ["scope"],
            registry=registry,
        )
        self._accepted_under = {name: self.accepted_scope.labels(name) for name in get_args(Scope)}
        self.accepted_risk = Counter(
            "vlm_gate_accepted_risk",
            "Sum of the risks of accepted answers: how many of them are expected to be wrong",
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
        self._stage = cache(
            self.stage_duration.labels
        )  # looking a child up costs as much as using it
        self.rejected = Counter(
            "vlm_gate_rejected_requests",
            "Requests that got a problem document instead of an answer",
            ["reason"],
            registry=registry,
        )
        self.out_of_domain = Counter(
            "vlm_gate_out_of_domain",
            "Answers about requests outside the domain of validity, by the side that is outside",
            ["part"],
            registry=registry,
        )
        for part in get_args(DomainPart):
            self.out_of_domain.labels(part)
        self.damaged_images = Counter(
            "vlm_gate_damaged_images",
            "Answers about images whose files a strict decoder finds damaged",
            registry=registry,
        )
        self.records_dropped = Counter(
            "vlm_gate_records_dropped", "Answers that are not in the records", registry=registry
        )
        self.images_dropped = Counter(
            "vlm_gate_images_dropped", "Images for review that could not be kept", registry=registry
        )
        self.shadow_decisions = Counter(
            "vlm_gate_shadow_decisions",
            "Answers that a candidate was scored on, by both decisions",
            ["active", "candidate"],
            registry=registry,
        )
        ProcessCollector(registry=registry)

    def records_lost(self, count: int) -> None:
        """Count answers that are not in the records."""
        self.records_dropped.inc(count)

    def image_lost(self) -> None:
        """Count an image for review that could not be kept."""
        self.images_dropped.inc()

    def set_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Give the risk histogram edges at other thresholds; it begins anew, as after a restart."""
        self.registry.unregister(self.risk)
        self.risk = _risk_histogram(self.registry, thresholds)

    def observe(
        self,
        outcome: Outcome,
        stages: Stages,
        mode: str,
        *,
        metadata: Mapping[str, str],
        trace_id: str | None,
    ) -> None:
        """Count one answered request; called once, at its end.

        Args:
            metadata: what the caller said of it; counted only where a slice was set for it.
            trace_id: of its sampled trace, which becomes the exemplar of its risk and its time.
        """
        decision, risk = outcome.decision, outcome.assessment.score
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        self.decisions.labels(decision.decision, decision.reason, mode).inc()
        for pair in self._slices.keys() & metadata.items():
            self.slice_decisions.labels(self._slices[pair], decision.decision).inc()
        if decision.scope is not None and decision.decision == "accept":
            self._accepted_under[decision.scope].inc()
        if not isinstance(risk, Missing):
            self.risk.observe(risk, exemplar)
            if decision.decision == "accept":
                self.accepted_risk.inc(risk)
        self._observe_signals(outcome.assessment.signals)
        if (compared := outcome.compared) is not None:
            self.shadow_decisions.labels(compared.active, compared.verdict).inc()
        for stage, seconds in stages.seconds.items():
            self._stage(stage).observe(seconds)
        self._stage("total").observe(stages.total, exemplar)

    def _observe_signals(self, signals: Signals) -> None:
        for name in SIGNALS:
            match getattr(signals, name):
                case Missing() as missing if missing.reason != NOT_A_FAILURE:
                    self.signal_failures.labels(name, missing.reason).inc()
                    if name == "self_consistency":
                        self.consistency_runs.labels("failed").inc()
                case AttentionConcentration() as attention:
                    self.top30_mass.observe(attention.top30_mass)
                    self.spatial_entropy.observe(attention.spatial_entropy)
                case SelfConsistency() as consistency:
                    self.agreement.observe(consistency.agreement)
                    ended = "stopped_early" if consistency.stopped_early else "completed"
                    self.consistency_runs.labels(ended).inc()
                case Domain(part=part) if part is not None:
                    self.out_of_domain.labels(part).inc()
                case ImageCondition(damaged=True):
                    self.damaged_images.inc()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type: OpenMetrics, which has exemplars, or plain text.

        Args:
            accept: the header of that name, or ``""``.
        """
        encode, content_type = choose_encoder(readable_accept(accept))
        return encode(self.registry), content_type


def readable_accept(accept: str) -> str:
    """What an ``Accept`` asks for that exists: without formats in versions that nobody knows."""
    versions = re.compile(r"version\s*=\s*([^;]*)")
    return ",".join(
        kind for kind in accept.split(",") if {*map(str.strip, versions.findall(kind))} <= VERSIONS
    )


def _risk_histogram(registry: CollectorRegistry, thresholds: Mapping[str, float]) -> Histogram:
    return Histogram(
        "vlm_gate_risk_score",
        "Calibrated probability that an answer is wrong",
        buckets=sorted({*RISKS, *thresholds.values()}),
        registry=registry,
    )


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name, value
