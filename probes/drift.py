"""Whether the risks still look like those that the bundle was calibrated on."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.types import FloatArray, Missing

WINDOW = 1000
"""Answers that are compared with the reference."""

DRIFT_LIMIT = 4.0
"""Ratio above which the risks have drifted, for :data:`WINDOW`, ten bins and a reference of 2,000
answers or more: without drift about one run of 20,000 answers in a hundred ever passes it."""


@dataclass(frozen=True, slots=True)
class RiskHistogram:
    """Calibrated risks of answers that the bundle was not fitted on, before self-consistency.

    Args:
        edges: upper edges of all bins but the last, rising; a risk at an edge is in the lower bin.
        counts: answers per bin, all above 0, shape (len(edges) + 1,).
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1 or len(self.counts) < 2:
            raise ValueError("counts: needs one more bin than edges, and two bins at least")
        if min(self.counts) < 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("counts, edges: counts must be above 0 and edges rise")

    @staticmethod
    def of(risk: FloatArray, bins: int = 10) -> RiskHistogram | Missing:
        """Bins of equal mass (fewer where risks are equal) of finite risks, shape (n,).

        ``Missing("too_few_answers")`` below ten answers per bin, ``Missing("constant_risk")`` when
        all are equal. Raises ValueError when one is not finite.
        """
        if not np.isfinite(risk).all():
            raise ValueError("risk: not finite; leave out the answers without a risk")
        if len(risk) < 10 * bins:
            return Missing("too_few_answers")
        shares = np.arange(1, bins) / bins
        edges = np.unique(np.quantile(risk, shares, method="inverted_cdf"))
        edges = edges[edges < risk.max()]
        if len(edges) == 0:
            return Missing("constant_risk")
        counts = np.bincount(np.searchsorted(edges, risk, side="left"), minlength=len(edges) + 1)
        return RiskHistogram(tuple(map(float, edges)), tuple(map(int, counts)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"edges": list(self.edges), "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RiskHistogram:
        """Read what :meth:`to_dict` wrote. Raises ValueError or KeyError naming a bad field."""
        return cls(tuple(map(float, fields["edges"])), tuple(map(int, fields["counts"])))


class DriftMonitor:
    """Drift ratio of the last ``window`` answers against a reference: O(1) per answer.

    The ratio is Pearson's statistic of the window's bins over its mean without drift,

        sum_k (c_k - n p_k)^2 / (n p_k)  /  ((K - 1) (1 + n / N)),

    with c_k of the window's n answers and a share p_k of the reference's N in bin k of K. It is 1
    on average for independent answers without drift, and grows by about n / (K - 1) times the
    chi-square distance of the distributions. Frames of a still scene are not independent and
    raise it.

    Args:
        reference: histogram in the bundle.
        window: answers compared.
        recent: risks to begin with, oldest first, such as the newest ones from the records.
    """

    def __init__(
        self, reference: RiskHistogram, window: int = WINDOW, recent: Iterable[float] = ()
    ) -> None:
        if window < 1:
            raise ValueError(f"window: {window} must be at least 1")
        self.reference = reference
        self.window = window
        self._bins: deque[int] = deque()
        self._counts = [0] * len(reference.counts)
        for risk in recent:
            self.update(risk)

    def update(self, risk: float) -> None:
        """Take one answer's stage-one risk, whatever was decided. Raises ValueError on NaN."""
        if risk != risk:
            raise ValueError("risk: is not a number; leave out answers without a risk")
        self._push(bisect_left(self.reference.edges, risk))

    def ratio(self) -> float | Missing:
        """The ratio, >= 0, or ``Missing("window_not_full")``."""
        size = len(self._bins)
        if size < self.window:
            return Missing("window_not_full")
        total = sum(self.reference.counts)
        expected = [size * count / total for count in self.reference.counts]
        pearson = sum((c - e) ** 2 / e for c, e in zip(self._counts, expected, strict=True))
        return pearson / ((len(expected) - 1) * (1 + size / total))

    def to_dict(self) -> dict[str, Any]:
        """The window as JSON takes it: its size and the bins of its answers, oldest first."""
        return {"window": self.window, "bins": list(self._bins)}

    @classmethod
    def from_dict(cls, reference: RiskHistogram, fields: Mapping[str, Any]) -> DriftMonitor:
        """Read what :meth:`to_dict` wrote beside the same reference. Raises ValueError if not."""
        monitor = cls(reference, fields["window"])
        for index in fields["bins"]:
            if not 0 <= index < len(reference.counts):
                raise ValueError(f"bins: no bin {index} in the reference; begin a new window")
            monitor._push(index)
        return monitor

    def _push(self, index: int) -> None:
        self._bins.append(index)
        self._counts[index] += 1
        if len(self._bins) > self.window:
            self._counts[self._bins.popleft()] -= 1
