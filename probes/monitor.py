"""The error rate of accepted answers while serving, from random audits: a test by betting.

Waudby-Smith and Ramdas 2020 (arXiv 2010.09686): against the claim "at most a share m of the
accepted answers is wrong" bet on every audit. The capital is a product of the factors

    1 + b w (Y - m) / m,    w = minimum_probability / inclusion probability,    0 < b < 1,

where Y is 1 for a wrong answer and 0 for a right one. An answer that was not selected has factor
1, so with inverse-probability weights (Waudby-Smith et al. 2022, arXiv 2210.10768) the capital does
not grow on average when the claim is true, and it ever reaches 1 / delta with chance at most delta
(Ville). The claims with less capital than that form the confidence sequence.

The bets b are the fixed grid :data:`BETS`, with the capital shared out equally between them, and
not predictable plug-ins. So the order of the outcomes does not matter, counts per inclusion
probability are all there is to keep, and an outcome that is not known yet, or never, can be set to
the value that lowers the capital: whatever is missing and for whatever reason, the capital stays
below that with all outcomes known, and the test keeps its level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from probes.types import FloatArray, Interval, Missing

BETS: NDArray[np.float64] = np.geomspace(0.01, 0.95, 16)
"""Shares of the capital that are lost on a right answer of weight 1."""


@dataclass(slots=True)
class _Tally:
    """Audits with one inclusion probability."""

    wrong: int = 0
    right: int = 0
    awaiting: int = 0


class ErrorMonitor:
    """Whether the promise on accepted answers still stands.

    Give it every selected audit when it is selected (:meth:`open`) and its outcome when it comes
    (:meth:`close`); outcomes of other answers (escalated ones, complaints) are biased and stay out.
    The claim that is tested: given the past, an accepted answer is wrong with chance at most alpha.

    With outcomes that all come back, a true error rate of 2 alpha voids the certificate within 500
    audits (alpha 5 %) or 250 audits (alpha 10 %) with chance at least 90 %, at delta 5 % and
    inclusion probabilities within a factor of two. Audits that are never judged count as right
    here: review what was drawn, or lower the rate.

    Args:
        alpha: error rate promised, 0 to 1.
        delta: chance that the certificate is voided although the promise holds, 0 to 1.
        minimum_probability: smallest inclusion probability that will occur; an answer weighs
            this over its own. Much below the rates in use it costs power, never validity.

    Raises ValueError when one of them is not in (0, 1), or (0, 1] for the last.
    """

    def __init__(self, alpha: float, delta: float, minimum_probability: float) -> None:
        if not (0 < alpha < 1 and 0 < delta < 1):
            raise ValueError(f"alpha, delta: {alpha}, {delta} must lie between 0 and 1")
        if not 0 < minimum_probability <= 1:
            raise ValueError(f"minimum_probability: {minimum_probability} must lie in (0, 1]")
        self.alpha = alpha
        self.delta = delta
        self.minimum_probability = minimum_probability
        self.void = False
        """The lower bound has exceeded alpha at some time. Stays so."""
        self._tallies: dict[float, _Tally] = {}
        self._log_capital = np.zeros(len(BETS))  # per bet, against the claim alpha

    def open(self, probability: float) -> None:
        """An accepted answer was selected with this probability; its outcome is to come.

        Raises ValueError when the probability is below the minimum or above 1.
        """
        self._log_capital += _log_factors(self._weight(probability), self.alpha)[0][0]
        self._tallies.setdefault(probability, _Tally()).awaiting += 1

    def close(self, probability: float, wrong: bool) -> None:
        """The outcome of an audit that was opened with this probability.

        Raises ValueError when none such is open.
        """
        tally = self._tallies.get(probability)
        if tally is None or tally.awaiting == 0:
            raise ValueError(f"probability: no open audit with {probability}; open it first")
        tally.awaiting -= 1
        if not wrong:  # as it was taken for while it was open
            tally.right += 1
            return
        tally.wrong += 1
        as_right, as_wrong = _log_factors(self._weight(probability), self.alpha)
        self._log_capital += as_wrong[0] - as_right[0]
        self._judge(float(_log_mean(self._log_capital)))

    @property
    def awaiting(self) -> int:
        """Audits without an outcome."""
        return sum(tally.awaiting for tally in self._tallies.values())

    def interval(self) -> Interval | Missing:
        """Error rate of accepted answers, so far.

        The estimate weighs the known outcomes by 1 / inclusion probability. Each bound holds at all
        times with chance at least 1 - delta; open audits count as right in the lower and as wrong
        in the upper bound. ``Missing("no_outcomes")`` before the first outcome.
        """
        weight = np.array([self.minimum_probability / p for p in self._tallies])
        tallies = self._tallies.values()
        wrong, right, awaiting = (
            np.array([(t.wrong, t.right, t.awaiting) for t in tallies], dtype=np.float64)
            .reshape(-1, 3)
            .T
        )
        known = float(weight @ (wrong + right))
        if known == 0:
            return Missing("no_outcomes")
        return Interval(
            estimate=float(weight @ wrong) / known,
            lower=_lower_bound(weight, wrong, right + awaiting, self.delta),
            upper=1 - _lower_bound(weight, right, wrong + awaiting, self.delta),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "alpha": self.alpha,
            "delta": self.delta,
            "minimum_probability": self.minimum_probability,
            "void": self.void,
            "audits": [
                [probability, tally.wrong, tally.right, tally.awaiting]
                for probability, tally in sorted(self._tallies.items())
            ],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ErrorMonitor:
        """Read what :meth:`to_dict` wrote. Raises ValueError or KeyError naming a bad field."""
        monitor = cls(fields["alpha"], fields["delta"], fields["minimum_probability"])
        for probability, *counts in fields["audits"]:
            tally = _Tally(*counts)
            as_right, as_wrong = _log_factors(monitor._weight(probability), monitor.alpha)
            monitor._log_capital += (tally.right + tally.awaiting) * as_right[0]
            monitor._log_capital += tally.wrong * as_wrong[0]
            monitor._tallies[probability] = tally
        monitor.void = bool(fields["void"])
        return monitor

    @classmethod
    def replay(
        cls,
        audits: Iterable[tuple[float, bool | None]],
        alpha: float,
        delta: float,
        minimum_probability: float,
        before: Iterable[tuple[float, int, int, int]] = (),
    ) -> ErrorMonitor:
        """The monitor after these audits, from the records.

        All replicas that read the same records agree. Void when the capital passed 1 / delta after
        any of the first 1, 2, ... audits; a monitor that met the outcomes in another order may have
        been voided at another moment. Both together still keep delta: neither capital exceeds the
        one with all outcomes known.

        Args:
            audits: inclusion probability, and wrong or not (None: not known), of the selected
                answers in the order in which they were accepted.
            before: audits before those, whose order is not known any more: per inclusion
                probability how many were found wrong, found right, and not judged.

        Raises ValueError as the constructor and :meth:`open`.
        """
        monitor = cls(alpha, delta, minimum_probability)
        for probability, *counts in before:
            monitor._tallies[probability] = _Tally(*counts)
        start = cls.from_dict(monitor.to_dict())._log_capital
        rows = list(audits)
        for probability, wrong in rows:
            tally = monitor._tallies.setdefault(probability, _Tally())
            tally.awaiting += wrong is None
            tally.wrong += wrong is True
            tally.right += wrong is False
        if rows:
            weight = np.array([monitor._weight(probability)[0] for probability, _ in rows])
            wrongs = np.array([wrong is True for _, wrong in rows])
            monitor._judge(float(log_capital(weight, wrongs, alpha, start).max()))
        return cls.from_dict(monitor.to_dict())

    def _judge(self, log_capital: float) -> None:
        self.void = self.void or log_capital >= -math.log(self.delta)

    def _weight(self, probability: float) -> FloatArray:
        if not self.minimum_probability <= probability <= 1:
            raise ValueError(
                f"probability: {probability} must lie between {self.minimum_probability} (the "
                "monitor's minimum) and 1; start a monitor with a lower minimum"
            )
        return np.array([self.minimum_probability / probability])


def log_capital(
    weight: FloatArray, wrong: NDArray[np.bool_], rate: float, start: FloatArray | float = 0.0
) -> NDArray[np.float64]:
    """Log of the capital against the claim ``rate`` after each audit.

    Args:
        weight: minimum_probability / inclusion probability, 0 to 1, shape (n,).
        wrong: shape (n,).
        rate: the claimed error rate, 0 to 1.
        start: log of each bet's capital before, shape (bets,).

    Returns shape (n,); the claim is refused at level delta once it reaches log(1 / delta).
    """
    as_right, as_wrong = _log_factors(weight, rate)
    return _log_mean(start + np.where(wrong[:, None], as_wrong, as_right).cumsum(axis=0))


def _log_factors(weight: FloatArray, rate: float) -> tuple[FloatArray, FloatArray]:
    """Log factors of a right and of a wrong answer, each (n, bets)."""
    stake = weight[:, None] * BETS
    return np.log1p(-stake), np.log1p(stake * (1 / rate - 1))


def _log_mean(logs: FloatArray) -> NDArray[np.float64]:
    """Log of the mean of exp(logs) over the last axis."""
    largest = logs.max(axis=-1, keepdims=True)
    return np.asarray(largest[..., 0] + np.log(np.exp(logs - largest).mean(axis=-1)))


def _lower_bound(weight: FloatArray, hits: FloatArray, misses: FloatArray, delta: float) -> float:
    """Largest refused claim "at most this share are hits". The capital falls in the claim."""

    def excess(log_rate: float) -> float:
        as_miss, as_hit = _log_factors(weight, math.exp(log_rate))
        return float(_log_mean(misses @ as_miss + hits @ as_hit)) + math.log(delta)

    lowest = math.log(1e-12)
    if excess(lowest) <= 0:
        return 0.0
    return math.exp(brentq(excess, lowest, 0.0, xtol=1e-9))
