"""Whether the promise on accepted answers still stands, from the audits in the records.

Every replica reads the same records and comes to the same state, within :data:`READ_SECONDS`. A
certificate that was found void stays void, in the records and over restarts: certify again, which
makes a certificate with another id.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from probes.bundle import Bundle
from probes.drift import WINDOW, DriftMonitor, RiskHistogram
from probes.monitor import ErrorMonitor
from probes.policy import PolicyMode
from probes.ranking import audited_auroc
from probes.types import Interval, Missing
from service.records.audits import Audit, AuditTrail
from service.records.errors import RecordsUnavailable
from service.records.store import RecordStore
from service.records.voids import Finding, make_void, voided

log = structlog.get_logger("service.promise")
READ_SECONDS = 10.0
"""Between two looks at the records."""
UNTESTED = (0.5, 0.05)
"""Alpha and delta where no certificate is in force: only the interval, at 95 %, is of use."""

SIGNALS: Mapping[str, tuple[str, str, int]] = {
    "hidden_state_probe": ("hidden_state_probe", "logit", 1),
    "token_confidence": ("token_confidence", "mean_logprob", -1),
    "first_token_entropy": ("token_confidence", "first_token_entropy", 1),
    "first_token_margin": ("token_confidence", "margin", -1),
    "self_consistency": ("self_consistency", "agreement", -1),
    "attention_spatial_entropy": ("attention", "spatial_entropy", 1),
    "attention_top30_mass": ("attention", "top30_mass", -1),
    "attention_image_mass": ("attention", "image_mass", -1),
    "attention_clusters": ("attention", "clusters", 1),
    "domain_distance": ("domain", "distance", 1),
}
"""Name as in the offline report -> signal, its field, and the sign that makes higher riskier."""

State = Literal["unread", "stands", "void"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the audits say so far.

    Args:
        error: error rate of accepted answers, with bounds that hold at all times.
        auroc: per signal, among the audited answers.
        judged: audits with an outcome. awaiting: audits that nobody has judged yet.
    """

    error: Interval | Missing
    auroc: Mapping[str, Interval | Missing]
    judged: int
    awaiting: int


class Promise(Collector):
    """The state of the bundle's certificates, tested together as one promise.

    They share alpha and delta, and each says of every answer accepted under it that it is wrong
    with chance at most alpha: so one test over all accepted answers voids them with chance at
    most delta while they hold.

    Args:
        store: the records.
        bundle: what decides.
        rate: share of accepted answers audited from now on, 0 to 1.
        window: answers whose risks are compared with the bundle's reference.
        mode: of the policy in force; by default the bundle's. A manual one promises nothing.
    """

    def __init__(
        self,
        store: RecordStore,
        bundle: Bundle,
        rate: float,
        window: int = WINDOW,
        mode: PolicyMode | None = None,
    ) -> None:
        self._store = store
        self._rate = rate
        self.bundle = bundle.id
        found = (*bundle.certificates.values(), *bundle.slice_certificates.values())
        certified = found if (mode or bundle.policy.mode) == "certified" else ()
        self._certificates = frozenset(certificate.id for certificate in certified)
        self._alpha, self._delta = min(
            ((certificate.alpha, certificate.delta) for certificate in certified), default=UNTESTED
        )
        self._trail = AuditTrail(store, bundle.id, self._certificates or {None})
        self.state: State = "unread"
        self._counted = 0
        self._lock = threading.Lock()
        self.standing = Standing(Missing("no_outcomes"), {}, 0, 0)
        self.drift = _drift(bundle, window)

    @property
    def void(self) -> bool:
        """Whether no certificate counts: found void, or the records could not be read yet."""
        return self.state != "stands"

    def read(self) -> None:
        """Take in what is new in the records. Waits for the database: use a thread.

        Raises RecordsUnavailable; the state is then as it was.
        """
        with self._lock:
            self._read()

    def _read(self) -> None:
        void = bool(voided(self._store, self._certificates))
        audits = self._trail.read()
        if self._trail.changes != self._counted:
            monitor = self._replay(audits)
            self.standing = Standing(
                monitor.interval(), _auroc(audits), _judged(monitor), monitor.awaiting
            )
            if monitor.void and self._certificates and not void:
                self.state = "void"  # whether or not it can be written down
                self._make_void(monitor)
                return
            self._counted = self._trail.changes
        self.state = "void" if void else "stands"

    def observe(self, risk: float | Missing) -> None:
        """Take one answer's risk before self-consistency, for the drift."""
        if self.drift is not None and not isinstance(risk, Missing):
            self.drift.update(risk)

    def collect(self) -> Iterable[Metric]:
        """The gauges; a number that is not known is left out."""
        standing = self.standing
        error = GaugeMetricFamily(
            "vlm_gate_audit_error_ratio",
            "Error rate of accepted answers by random audits; bounds hold at all times",
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
        awaiting = GaugeMetricFamily("vlm_gate_audits_awaiting", "Audits that nobody has judged")
        awaiting.add_metric([], standing.awaiting)
        judged = GaugeMetricFamily("vlm_gate_audits_judged", "Audits with an outcome")
        judged.add_metric([], standing.judged)
        yield from (error, auroc, awaiting, judged)
        ratio = Missing("no_reference") if self.drift is None else self.drift.ratio()
        if not isinstance(ratio, Missing):
            drift = GaugeMetricFamily(
                "vlm_gate_risk_drift_ratio",
                "Drift of the risks against the bundle's reference; about 1 without drift",
            )
            drift.add_metric([], ratio)
            yield drift

    def _replay(self, audits: list[Audit]) -> ErrorMonitor:
        """The test over all audits, of which there is at least one."""
        known = [(_probability(audit), audit.wrong) for audit in audits]
        before = self._trail.deleted
        rates = [p for p, _ in known] + [p for p, *_ in before]
        return ErrorMonitor.replay(
            ((p, None if isinstance(wrong, Missing) else wrong) for p, wrong in known),
            self._alpha,
            self._delta,
            min(rates + [self._rate] * (self._rate > 0)),
            before,
        )

    def _make_void(self, monitor: ErrorMonitor) -> None:
        counts = monitor.to_dict()["audits"]
        wrong = sum(row[1] for row in counts)
        finding = Finding(self._alpha, self._delta, wrong, sum(sum(row[1:]) for row in counts))
        log.error("certificate_void", certificates=sorted(self._certificates), wrong=wrong)
        make_void(self._store, self._certificates, finding)


def try_to_read(promise: Promise) -> None:
    """:meth:`Promise.read`; a database that does not work now is told to the log."""
    try:
        promise.read()
    except RecordsUnavailable as error:
        log.warning("audits_not_read", detail=str(error))
    except Exception:  # a thread's edge; what cannot be checked does not count as fine
        promise.state = "unread"
        log.exception("audits_not_read")


def _drift(bundle: Bundle, window: int) -> DriftMonitor | None:
    """None where the bundle holds no reference."""
    reference = bundle.training.get("risk_reference")
    return None if reference is None else DriftMonitor(RiskHistogram.from_dict(reference), window)


def _judged(monitor: ErrorMonitor) -> int:
    return sum(wrong + right for _, wrong, right, _ in monitor.to_dict()["audits"])


def _probability(audit: Audit) -> float:
    assert audit.record.audit_probability is not None  # recorded with every draw
    return audit.record.audit_probability


def _auroc(audits: list[Audit]) -> Mapping[str, Interval | Missing]:
    judged = [(audit, w) for audit in audits if not isinstance(w := audit.wrong, Missing)]
    found: dict[str, Interval | Missing] = {}
    for name in ("risk", *SIGNALS):
        rows = [
            (score, wrong, _probability(audit))
            for audit, wrong in judged
            if not isinstance(score := _score(audit, name), Missing)
        ]
        if rows:
            scores, wrongs, probabilities = (np.array(column) for column in zip(*rows, strict=True))
            found[name] = audited_auroc(scores, wrongs, probabilities)
    return found


def _score(audit: Audit, name: str) -> float | Missing:
    if name == "risk":
        return audit.record.risk
    signal, part, sign = SIGNALS[name]
    value = audit.record.signals.get(signal, {}).get(part)
    return Missing("not_recorded") if value is None else sign * float(value)


def _fill(family: GaugeMetricFamily, labels: list[str], interval: Interval | Missing) -> None:
    if not isinstance(interval, Missing):
        for bound in ("estimate", "lower", "upper"):
            family.add_metric([*labels, bound], getattr(interval, bound))
