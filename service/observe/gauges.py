"""The gate's state for Prometheus, read at each scrape so that it is never stale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from probes.model.certificate import Certificate
from service import __version__
from service.observe.promise_gauges import promise_gauges

if TYPE_CHECKING:
    from service.gate.gate import Gate


class Gauges(Collector):
    """Queue, health, thresholds, certificate and build; what does not apply is left out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        yield from self._load()
        yield from self._health()
        yield from self._promise()
        yield self._build()

    def _load(self) -> Iterator[Metric]:
        settings, admission = self._gate.settings, self._gate.admission
        yield _gauge("vlm_gate_queue_depth", "Requests waiting", admission.waiting)
        yield _gauge("vlm_gate_queue_limit", "Requests that may wait", settings.max_queue)
        yield _gauge("vlm_gate_inflight_requests", "Requests worked on", admission.inflight)
        yield _gauge(
            "vlm_gate_inflight_limit", "Requests that may be worked on", settings.max_inflight
        )
        yield _gauge(
            "vlm_gate_deadline_seconds",
            "A request that takes longer gets a 504",
            settings.deadline_seconds,
        )
        if settings.review_capacity_per_hour > 0:
            yield _gauge(
                "vlm_gate_review_capacity_per_hour",
                "Escalations that the reviewers can take in an hour",
                settings.review_capacity_per_hour,
            )

    def _health(self) -> Iterator[Metric]:
        gate = self._gate
        ready = gate.state == "ready" and gate.engine.healthy
        yield _gauge("vlm_gate_ready", "1 while /readyz says so", ready)
        if gate.engine_started:
            yield _gauge("vlm_gate_engine_healthy", "1 while the engine works", gate.engine.healthy)
        if gate.parity is not None:
            yield _gauge(
                "vlm_gate_parity_failed",
                "1 where the self-test before readiness failed",
                not gate.parity,
            )
        if gate.record_keeping is not None:
            yield _gauge(
                "vlm_gate_records_failing",
                "1 while the records' database does not take answers, or is gone",
                not gate.record_keeping.recorder.healthy,
            )

    def _promise(self) -> Iterator[Metric]:
        gate = self._gate
        threshold = GaugeMetricFamily(
            "vlm_gate_threshold", "Thresholds on the risk in force", labels=["kind"]
        )
        for kind, value in gate.rules.thresholds().items():
            threshold.add_metric([kind], value)
        yield threshold
        if gate.rules.promise is not None:
            yield from promise_gauges(gate.rules.promise)
        policy = gate.rules.policy
        if policy.mode != "certified":
            return
        valid = isinstance(gate.rules.certificate, Certificate)
        yield _gauge(
            "vlm_gate_certificate_valid", "1 while the default mode's certificate holds", valid
        )
        certificate = gate.bundle.certificates.get(policy.self_consistency)
        if certificate is None:
            return
        yield _gauge(
            "vlm_gate_certificate_expiry_timestamp_seconds",
            "End of the default mode's certificate, Unix time",
            datetime.fromisoformat(certificate.expires).timestamp(),
        )
        yield _gauge(
            "vlm_gate_certificate_alpha_ratio",
            "Largest error rate of accepted answers that the certificate allows",
            certificate.alpha,
        )
        yield _gauge(
            "vlm_gate_certificate_loosened",
            "1 where recertify --loosen put a larger alpha in the place of the bundle's",
            gate.bundle.loosened_from is not None,
        )
        yield from self._small_slices()

    def _small_slices(self) -> Iterator[Metric]:
        """What calibration saw of the slices that share a certificate, each alone."""
        rules = self._gate.rules
        error = GaugeMetricFamily(
            "vlm_gate_slice_error_ratio",
            "Error rate of accepted answers in calibration, of slices that share a certificate",
            labels=["slice", "bound"],
        )
        for name, seen in rules.bundle.observed_slices(rules.policy.self_consistency).items():
            for bound in ("estimate", "lower", "upper"):
                error.add_metric([name, bound], getattr(seen, bound))
        yield error

    def _build(self) -> Metric:
        bundle = self._gate.bundle
        build: Mapping[str, str] = {
            "version": __version__,
            "model": bundle.model.name,
            "bundle": bundle.id,
            "engine": bundle.model.engine,
        }
        return InfoMetricFamily("vlm_gate_build", "What runs", value=dict(build))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
