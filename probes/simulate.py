"""What a policy would do: coverage, risk and escalation for a threshold, an error rate or a load.

Trying thresholds looks at the selection split alone. What is called guaranteed is tested on the
calibration split, at thresholds that the selection split fixed; each line holds by itself with
confidence 1 - delta, so choose what is wanted before looking, not the best of many lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from probes.bundle import Bundle
from probes.certify import policy_risk, stage_risks
from probes.guarantee import fixed_sequence, one_per_image, threshold_ladder
from probes.policy import composed_reject
from probes.store import Store
from probes.train import splits_of
from probes.types import ConsistencyMode, FloatArray, Missing


@dataclass(frozen=True, slots=True)
class Simulated:
    """One policy on the selection split, and what is guaranteed of it.

    Args:
        threshold: answers of at most this risk are accepted; ``None`` accepts none.
        coverage: share accepted.
        risk: share of wrong answers among the accepted, or why there is none.
        escalated: share that goes to a person. rejected: share that is rejected.
        guaranteed: error rate among accepted answers that holds with confidence 1 - delta, or why
            nothing is guaranteed.
    """

    self_consistency: ConsistencyMode
    threshold: float | None
    coverage: float
    risk: float | Missing
    escalated: float
    rejected: float
    guaranteed: float | Missing


class Simulator:
    """One self-consistency mode of a bundle on the store that it was trained on."""

    def __init__(self, store: Store, bundle: Bundle, mode: ConsistencyMode) -> None:
        """Raises StoreError when it is another store."""
        splits = splits_of(store, bundle)
        self._store, self._bundle, self._mode = store, bundle, mode
        self._select, self._calibrate = splits == "select", splits == "calibrate"
        self._stages = stage_risks(store, bundle)
        self._risk = policy_risk(self._stages, bundle, mode)
        self._seed = int(bundle.training["split"]["seed"])

    def at_threshold(self, threshold: float | None) -> Simulated:
        """What the threshold does; nothing is guaranteed of one that was tried out."""
        return self._row(threshold, Missing("not_tested"))

    def at_alpha(self, alpha: float, delta: float) -> Simulated:
        """The threshold that a certificate of this error rate would have."""
        ladder = threshold_ladder(self._risk[self._select], self._wrong(self._select), alpha)
        tested = fixed_sequence(*self._calibration(), ladder, alpha, delta)
        if tested is None:
            return self._row(None, Missing("no_certificate"))
        return self._row(tested.threshold, alpha)

    def at_capacity(self, escalated: float, delta: float) -> Simulated:
        """The lowest error rate guaranteed when people can review at most this share.

        Of the thresholds at which the selection split escalates no more, that one is taken whose
        bound the selection split expects to be lowest; the error rate is the upper Clopper-Pearson
        bound at it, and at no other, on the calibration split.
        """
        risk, wrong = self._calibration()
        thresholds = np.unique(self._risk[self._select & np.isfinite(self._risk)])
        allowed = [float(t) for t in thresholds if self._escalated(t) <= escalated]
        if not allowed:
            return self._row(None, Missing("escalates_more"))
        seen, label = self._risk[self._select], self._wrong(self._select)
        growth = len(risk) / len(seen)
        accepted = np.array([(seen <= t).sum() for t in allowed]) * growth
        errors = np.array([(label & (seen <= t)).sum() for t in allowed]) * growth
        expected = beta.ppf(1 - delta, errors + 1, np.maximum(accepted - errors, 1e-9))
        threshold = allowed[int(np.argmin(expected))]
        return self._row(threshold, _upper_bound(wrong[risk <= threshold], delta))

    def _escalated(self, threshold: float) -> float:
        accepted, thrown = self._decided(threshold)
        return float((~accepted & ~thrown).mean())

    def _decided(self, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Accepted and rejected answers of the selection split."""
        rows, stages = self._select, self._stages
        thrown = composed_reject(
            stages.first,
            stages.second,
            stages.inside,
            self._mode,
            self._bundle.policy.reject_above,
            threshold,
        )
        return self._risk[rows] <= threshold, thrown[rows]

    def _row(self, threshold: float | None, guaranteed: float | Missing) -> Simulated:
        accepted, thrown = self._decided(-np.inf if threshold is None else threshold)
        wrong = self._wrong(self._select)
        return Simulated(
            self._mode,
            threshold,
            float(accepted.mean()),
            float(wrong[accepted].mean()) if accepted.any() else Missing("none_accepted"),
            float((~accepted & ~thrown).mean()),
            float(thrown.mean()),
            guaranteed,
        )

    def _wrong(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return self._store.wrong[rows]

    def _calibration(self) -> tuple[FloatArray, NDArray[np.bool_]]:
        """One answer per image, the same that certificates are tested on."""
        rows = np.flatnonzero(self._calibrate)
        chosen = rows[one_per_image(self._store.groups[rows], self._seed)]
        return self._risk[chosen], self._store.wrong[chosen]


def _upper_bound(wrong: NDArray[np.bool_], delta: float) -> float | Missing:
    """Largest error rate that these answers do not exclude at level delta."""
    if wrong.size == 0:
        return Missing("none_accepted")
    errors = int(wrong.sum())
    if errors == wrong.size:
        return 1.0
    return float(beta.ppf(1 - delta, errors + 1, wrong.size - errors))
