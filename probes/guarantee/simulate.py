"""Simulates a policy: coverage, risk and escalation for a threshold, an error rate or a load.

Trying thresholds looks only at the selection split. A guarantee is tested on the
calibration split, at thresholds that the selection split fixed; each line holds by itself with
confidence 1 - delta, so choose what is wanted before looking, not the best of many lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView
from probes.data.splits import splits_of
from probes.data.store import Store
from probes.guarantee.betting import (
    MOST_PER_GROUP,
    GroupedAnswers,
    bound_bet,
    error_bound,
    fixed_sequence,
    largest_group,
    plan_ladder,
)
from probes.guarantee.composed import composed_reject, policy_risk, stage_risks
from probes.model.bundle import Bundle
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
        self._stages = stage_risks(StoreView(store, bundle))
        self._risk = policy_risk(self._stages, bundle, mode)
        self._seed = int(bundle.training["split"]["seed"])
        self._most = min(MOST_PER_GROUP, largest_group(store.groups[self._select]))

    def at_threshold(self, threshold: float | None) -> Simulated:
        """Simulate a threshold, without any guarantee."""
        return self._row(threshold, Missing("not_tested"))

    def at_alpha(self, alpha: float, level: float) -> Simulated:
        """Simulate the threshold of a certificate of this error rate, tested at this level."""
        tested = self._calibration()
        rows = self._select
        ladder = plan_ladder(
            self._risk[rows], self._wrong(rows), self._store.groups[rows],
            alpha=alpha, level=level, count=tested.count,
        )  # fmt: skip
        found = fixed_sequence(tested, ladder, alpha, level)
        if found is None:
            return self._row(None, Missing("no_certificate"))
        return self._row(found.threshold, alpha)

    def at_capacity(self, escalated: float, delta: float) -> Simulated:
        """Simulate the lowest error rate guaranteed when people review at most this share.

        Of the thresholds at which the selection split escalates no more, that one is taken whose
        bound the selection split expects to be lowest; the error rate is
        :func:`~probes.guarantee.betting.error_bound` at it, and at no other, on the calibration
        split.
        """
        usable = self._risk[self._select & np.isfinite(self._risk)]
        allowed = [float(t) for t in _thinned(usable) if self._escalated(t) <= escalated]
        if not allowed:
            return self._row(None, Missing("escalates_more"))
        seen, tested = self._grouped(self._select), self._calibration()
        growth = tested.count / seen.count
        expected, bets = [], []
        for threshold in allowed:
            sums = seen.sums(threshold)
            bets.append(bound_bet(*sums, level=delta, count=tested.count, most=self._most))
            # The wealth of so many more groups is that of these to the power of the growth.
            level = delta ** (1 / growth)
            expected.append(error_bound(*sums, bet=bets[-1], level=level))
        best = int(np.argmin(expected))
        sums = tested.sums(allowed[best])
        if not sums[0].any():
            return self._row(allowed[best], Missing("none_accepted"))
        bound = error_bound(*sums, bet=bets[best], level=delta, uniform=tested.uniform)
        return self._row(allowed[best], bound)

    def _escalated(self, threshold: float) -> float:
        accepted, thrown = self._decided(threshold)
        return float((~accepted & ~thrown).mean())

    def _decided(self, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which answers of the selection split are accepted, and which are rejected."""
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

    def _calibration(self) -> GroupedAnswers:
        """Return the answers that certificates are tested on."""
        return self._grouped(self._calibrate)

    def _grouped(self, rows: NDArray[np.bool_]) -> GroupedAnswers:
        return GroupedAnswers.of(
            self._risk[rows], self._wrong(rows), self._store.groups[rows],
            most=self._most, seed=self._seed,
        )  # fmt: skip


def _thinned(risk: FloatArray, steps: int = 500) -> FloatArray:
    """Return quantiles of the risk, so that a large split takes no longer than needed."""
    if risk.size == 0:
        return risk
    quantiles = np.quantile(risk, np.arange(1, steps + 1) / steps, method="inverted_cdf")
    return np.asarray(np.unique(quantiles), dtype=np.float64)
