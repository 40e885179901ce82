"""Whether the promise on accepted answers still stands, from the audits in the records.

Every replica reads the same records and comes to the same state, within :data:`READ_SECONDS`. The
state is computed from the audits as they are known now: a void that rested on words which a second
reviewer corrected is lifted by that, and by nothing else but a certificate with another id, from
other data. What changed and when stays in the records.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from probes.bundle import Bundle
from probes.drift import WINDOW, DriftMonitor, RiskHistogram
from probes.monitor import Draw, ErrorMonitor, spread
from probes.policy import PolicyMode
from probes.ranking import audited_auroc
from probes.types import Interval, Missing
from service.recorded_signals import signals_of
from service.records.audits import Audit, AuditTrail, Sample
from service.records.errors import RecordsUnavailable
from service.records.store import RecordStore
from service.records.voids import Change, Finding, Kind, last_changes, write_change

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

State = Literal["unread", "stands", "suspected", "void"]
"""``suspected``: void by single words, of which a second reviewer has to confirm some."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the audits say so far.

    Args:
        error: error rate of accepted answers; see :meth:`probes.monitor.ErrorMonitor.interval`.
        auroc: per signal, among the audited answers.
        judged: audits with an outcome. awaiting: audits that nobody has judged yet.
        evidence: against the promise, over what voids it; None where nothing is promised.
    """

    error: Interval | Missing
    auroc: Mapping[str, Interval | Missing]
    judged: int
    awaiting: int
    evidence: float | None = None


class Promise(Collector):
    """The state of the bundle's certificates, tested together as one promise.

    They share alpha and delta, and each says that of the answers accepted under it at most alpha
    are wrong: so one test over all accepted answers voids them with chance at most delta while
    they hold.

    Args:
        store: the records.
        bundle: what decides.
        deadline_days: an audit that nobody has judged by then counts as wrong; 0: never.
        confirmed: words that a second reviewer confirmed void it, single ones make it suspected.
        window: answers whose risks are compared with the bundle's reference.
        mode: of the policy in force; by default the bundle's. A manual one promises nothing.
    """

    def __init__(
        self,
        store: RecordStore,
        bundle: Bundle,
        *,
        deadline_days: float = 0,
        confirmed: bool = False,
        window: int = WINDOW,
        mode: PolicyMode | None = None,
    ) -> None:
        self._store = store
        self._deadline = timedelta(days=deadline_days) if deadline_days else None
        self._confirmed = confirmed
        self.bundle = bundle.id
        self._bundle = bundle
        found = (*bundle.certificates.values(), *bundle.slice_certificates.values())
        certified = found if (mode or bundle.policy.mode) == "certified" else ()
        self._certificates = frozenset(certificate.id for certificate in certified)
        self._alpha, self._delta = min(
            ((certificate.alpha, certificate.delta) for certificate in certified), default=UNTESTED
        )
        self._trail = AuditTrail(store, bundle.id, self._certificates or {None})
        self.state: State = "unread"
        self._counted = 0
        self._due: datetime | None = None  # when the next audit counts as wrong, unless judged
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
        if self.state == "unread":
            self._recall()
        last = last_changes(self._store, self._certificates)  # first: the audits are newer then
        audits = self._trail.read()
        overdue = self._due is not None and self._due <= self._trail.now
        if self.state == "unread" or self._trail.changes != self._counted or overdue:
            found = self._judge(audits)
            self._settle(found, last, any(len(audit.words) > 1 for audit in audits))
            self._counted = self._trail.changes

    def _judge(self, audits: list[Audit]) -> ErrorMonitor:
        """The test over all audits, by the words of one reviewer each."""
        samples = sorted(
            (*self._trail.past, *(audit.sample for audit in audits)),
            key=lambda sample: (sample.created, sample.id),
        )
        counts = self._trail.counts
        earlier = [draw for p, *row in counts for draw in spread(p, row, self.bundle)]
        waits = [ends for s in samples if s.wrong is None and (ends := self._ends(s)) is not None]
        self._due = min((ends for ends in waits if ends > self._trail.now), default=None)
        monitor = ErrorMonitor.replay(
            [*earlier, *(self._draw(sample, sample.wrong) for sample in samples)],
            self._alpha,
            self._delta,
        )
        known = sum(sample.wrong is not None for sample in samples)
        self.standing = Standing(
            monitor.interval(),
            _auroc(audits),
            known + sum(wrong + right for _, wrong, right, _ in counts),
            len(samples) - known + sum(awaiting for *_, awaiting in counts),
            monitor.evidence if self._certificates else None,
        )
        if not (self._confirmed and monitor.void):
            return monitor
        agreed = [
            self._draw(sample, False if sample.wrong and not sample.confirmed else sample.wrong)
            for sample in samples
        ]
        return ErrorMonitor.replay([*earlier, *agreed], self._alpha, self._delta)

    def _settle(self, found: ErrorMonitor, last: Mapping[str, Change], corrected: bool) -> None:
        """Come to a state, and write down where it is another than the records have it.

        A void of an earlier version is kept as long as no word was corrected: it was found by
        another test.
        """
        if not self._certificates:
            self.state = "stands"
            return
        written = {name for name, change in last.items() if change.kind == "void"}
        lifted = {name for name in written if last[name].number > 0 or corrected}
        if found.void:
            self.state = "void"  # whether or not it can be written down
            self._write("void", self._certificates - written, last, found)
        elif written - lifted:
            self.state = "void"
        else:
            self._write("lifted", lifted, last, found)
            suspected = (self.standing.evidence or 0) >= 1
            self.state = "suspected" if suspected else "stands"

    def _write(
        self, kind: Kind, names: AbstractSet[str], last: Mapping[str, Change], found: ErrorMonitor
    ) -> None:
        if not names:
            return
        finding = Finding(self._alpha, self._delta, found.evidence, found.wrong, found.audits)
        tell = log.error if kind == "void" else log.warning
        tell(f"certificate_{kind}", certificates=sorted(names), evidence=found.evidence)
        write_change(self._store, {name: last.get(name) for name in names}, kind, finding)

    def _ends(self, sample: Sample) -> datetime | None:
        """When an audit counts as wrong, unless judged; never where the records know no rule."""
        if self._deadline is None or sample.reference is None:
            return None
        return sample.created + self._deadline

    def _draw(self, sample: Sample, wrong: bool | None) -> Draw:
        ends = self._ends(sample)
        if wrong is None and ends is not None and ends <= self._trail.now:
            wrong = True
        reference = sample.probability if sample.reference is None else sample.reference
        return Draw(sample.id, sample.group, sample.probability, reference, wrong)

    def observe(self, risk: float | Missing, image: str) -> None:
        """Take one answer's risk before self-consistency, and its image's hash, for the drift."""
        if self.drift is not None and not isinstance(risk, Missing):
            self.drift.update(risk, image)

    def _recall(self) -> None:
        """Fill the drift's window with this replica's answers from before a restart."""
        if self.drift is None or not self.drift.empty:
            return
        filled = DriftMonitor(self.drift.reference, self.drift.window)
        for record in self._store.own_latest(self.bundle, filled.window):
            risk = record.risk
            if record.stage == 2:
                risk = self._bundle.assess(signals_of(record.signals, self._bundle)).score
            if not isinstance(risk, Missing):
                filled.update(risk, record.image_sha256)
        if self.drift.empty:
            self.drift = filled

    def collect(self) -> Iterable[Metric]:
        """The gauges; a number that is not known is left out."""
        standing = self.standing
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
        awaiting = GaugeMetricFamily("vlm_gate_audits_awaiting", "Audits that nobody has judged")
        awaiting.add_metric([], standing.awaiting)
        judged = GaugeMetricFamily("vlm_gate_audits_judged", "Audits with an outcome")
        judged.add_metric([], standing.judged)
        yield from (error, auroc, awaiting, judged)
        if standing.evidence is not None:
            evidence = GaugeMetricFamily(
                "vlm_gate_promise_evidence_ratio",
                "Evidence of the audits against the promise, over what voids it; 1 is void",
            )
            evidence.add_metric([], standing.evidence)
            yield evidence
        ratio = Missing("no_reference") if self.drift is None else self.drift.ratio()
        if not isinstance(ratio, Missing):
            drift = GaugeMetricFamily(
                "vlm_gate_risk_drift_ratio",
                "Drift of the risks against the bundle's reference; about 1 without drift",
            )
            drift.add_metric([], ratio)
            yield drift


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
