"""What the audits say so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probes.monitor.ranking import audited_auroc
from probes.signals.catalogue import SCORES
from probes.types import Interval, Missing
from service.records.audits import Audit


@dataclass(frozen=True, slots=True)
class Standing:
    """What the audits say so far.

    Args:
        error: error rate of accepted answers; see
            :meth:`probes.monitor.error_rate.ErrorMonitor.interval`.
        auroc: per signal, among the audited answers.
        judged: audits with an outcome. awaiting: audits that nobody has judged yet.
        evidence: against the promise, over what voids it; None where nothing is promised.
    """

    error: Interval | Missing
    auroc: Mapping[str, Interval | Missing]
    judged: int
    awaiting: int
    evidence: float | None = None


def auroc_of(audits: Sequence[Audit]) -> Mapping[str, Interval | Missing]:
    """How well each signal ranks wrong above right among the audits that were judged."""
    judged = [(audit, w) for audit in audits if not isinstance(w := audit.wrong, Missing)]
    found: dict[str, Interval | Missing] = {}
    for name in ("risk", *SCORES):
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
    score = SCORES[name]
    value = audit.record.signals.get(score.signal, {}).get(score.field)
    return Missing("not_recorded") if value is None else score.sign * float(value)


def _probability(audit: Audit) -> float:
    assert audit.record.audit_probability is not None  # recorded with every draw
    return audit.record.audit_probability
