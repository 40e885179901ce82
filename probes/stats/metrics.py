"""How well a score ranks wrong answers above right ones.

Every metric takes ``risk`` (higher is riskier, finite), ``wrong`` and optional whole-number weights
(how often each answer counts), all of shape (n,), and returns a number, or ``Missing`` where the
metric is not defined. Answers with equal risk are accepted together, or counted in random order
where a metric walks through them one by one.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from probes.stats.bootstrap import BoolArray
from probes.types import FloatArray, Interval, Missing


def auroc(risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None) -> float | Missing:
    """Chance that a wrong answer has a higher risk than a right one; ties count half."""
    accepted, errors = _accepted(risk, wrong, weight)
    right = accepted - errors
    if errors[-1] == 0 or right[-1] == 0:
        return Missing("one_class")
    new_errors = np.diff(errors, prepend=0.0)
    below = np.concatenate([[0.0], right[:-1]])
    return _dot(new_errors, below + right) / (2 * float(errors[-1]) * float(right[-1]))


def point_biserial(
    risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None
) -> float | Missing:
    """Pearson correlation of the risk with being wrong, -1 to 1."""
    weight = _weight(risk, weight)
    total = weight.sum()
    centred = risk - _dot(weight, risk) / total
    weighted = weight * centred
    variance = _dot(weighted, centred) / total
    rate = _dot(weight, wrong) / total
    if rate in (0.0, 1.0):
        return Missing("one_class")
    if variance <= 1e-24 * max(1.0, float(np.abs(risk).max()) ** 2):
        return Missing("constant_score")
    return float(_dot(weighted, wrong) / total / math.sqrt(variance * rate * (1 - rate)))


def fisher_interval(correlation: float, count: int, level: float = 0.95) -> Interval | Missing:
    """Interval of a correlation by Fisher's z, for independent answers."""
    if count <= 3 or abs(correlation) >= 1:
        return Missing("too_few_answers" if count <= 3 else "perfect_correlation")
    half = float(norm.ppf(0.5 + level / 2)) / math.sqrt(count - 3)
    centre = math.atanh(correlation)
    return Interval(correlation, math.tanh(centre - half), math.tanh(centre + half))


def aurc(risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None) -> float | Missing:
    """Area under the risk-coverage curve: selective risk averaged over the coverages i / n.

    Geifman and El-Yaniv 2017 (arXiv 1705.08500). Ties give the expectation over random orders.
    """
    accepted, errors = _accepted(risk, wrong, weight)
    before = np.concatenate([[0.0], accepted[:-1]])
    size = accepted - before
    share = np.diff(errors, prepend=0.0) / np.maximum(size, 1.0)
    known = np.concatenate([[0.0], errors[:-1]])
    # sum over j = 1..size of (known + share j) / (before + j)
    areas = share * size + (known - share * before) * (_harmonic(accepted) - _harmonic(before))
    return float(areas.sum() / accepted[-1])


def e_aurc(risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None) -> float | Missing:
    """Excess AURC: what is lost against a perfect ranking (Geifman et al. 2019, 1805.08206)."""
    area = aurc(risk, wrong, weight)
    if isinstance(area, Missing):
        return area
    weight = _weight(risk, weight)
    total, errors = float(weight.sum()), _dot(weight, wrong)
    right = total - errors
    counts = np.array([total, right])
    best = (errors - right * float(np.subtract(*_harmonic(counts)))) / total
    return area - best


def brier(risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None) -> float | Missing:
    """Mean squared error of the risk as a probability; ``Missing`` outside 0 to 1."""
    if not _is_probability(risk):
        return Missing("not_a_probability")
    weight = _weight(risk, weight)
    return _dot(weight, (risk - wrong) ** 2) / float(weight.sum())


def ece(
    risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None, bins: int = 15
) -> float | Missing:
    """Expected calibration error over bins of equal mass (Nixon et al. 2019, 1904.01685).

    Answers with equal risk share a bin, so bins may differ in size.
    """
    if not _is_probability(risk):
        return Missing("not_a_probability")
    risk, wrong, weight = _ascending(risk, wrong, weight)
    ends = _block_ends(risk)
    reached = np.cumsum(weight)[ends]
    total = reached[-1]
    edges = np.unique(np.searchsorted(reached, total * np.arange(1, bins + 1) / bins - 1e-9))
    stops = ends[edges]
    gaps = np.cumsum(weight * (risk - wrong))[stops]
    return float(np.abs(np.diff(gaps, prepend=0.0)).sum() / total)


def coverage_at_risk(
    risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None, *, level: float
) -> float | Missing:
    """Largest share of answers that can be accepted with an error rate of at most ``level``."""
    accepted, errors = _accepted(risk, wrong, weight)
    allowed = accepted[errors <= level * accepted]
    return float(allowed[-1] / accepted[-1]) if allowed.size else 0.0


def effective_reliability(
    risk: FloatArray,
    wrong: BoolArray,
    weight: FloatArray | None = None,
    *,
    cost: float,
    threshold: float | None,
) -> float | Missing:
    """Phi_c: an accepted answer earns 1 when right and -cost when wrong, others 0; the mean.

    Whitehead et al. 2022 (arXiv 2204.13631), equation 4. Take the threshold from other data by
    :func:`reliability_threshold`; ``None`` accepts nothing.
    """
    weight = _weight(risk, weight)
    if threshold is None:
        return 0.0
    kept = weight * (risk <= threshold)
    return float((kept.sum() - (1 + cost) * _dot(kept, wrong)) / weight.sum())


def reliability_threshold(risk: FloatArray, wrong: BoolArray, *, cost: float) -> float | None:
    """Return the threshold of best Phi_c on these answers; None when accepting nothing is best."""
    accepted, errors = _accepted(risk, wrong, None)
    gain = accepted - (1 + cost) * errors
    best = int(np.argmax(gain))
    return float(np.unique(risk)[best]) if gain[best] > 0 else None


def _dot(first: FloatArray, second: FloatArray | BoolArray) -> float:
    """Sum of products without BLAS, whose threads cost more than they save on a few thousand."""
    return float(np.einsum("i,i->", first, second))


def _is_probability(risk: FloatArray) -> bool:
    return bool(risk.min() >= 0 and risk.max() <= 1)


def _weight(risk: FloatArray, weight: FloatArray | None) -> FloatArray:
    return np.ones(len(risk)) if weight is None else weight


def _ascending(
    risk: FloatArray, wrong: BoolArray, weight: FloatArray | None
) -> tuple[FloatArray, BoolArray, FloatArray]:
    weight = _weight(risk, weight)
    if (risk[1:] >= risk[:-1]).all():  # as the bootstrap calls it, a thousand times
        return risk, wrong, weight
    order = np.argsort(risk, kind="stable")
    return risk[order], wrong[order], weight[order]


def _block_ends(risk: FloatArray) -> NDArray[np.intp]:
    """Index of the last answer of each run of equal risks, in ascending risks."""
    return np.append(np.flatnonzero(risk[1:] != risk[:-1]), len(risk) - 1)


def _accepted(
    risk: FloatArray, wrong: BoolArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Answers and errors at or below each distinct risk, ascending."""
    risk, wrong, weight = _ascending(risk, wrong, weight)
    accepted, errors = np.cumsum(weight), np.cumsum(weight * wrong)
    ends = _block_ends(risk)
    return (accepted, errors) if len(ends) == len(risk) else (accepted[ends], errors[ends])


def _harmonic(counts: FloatArray) -> FloatArray:
    """Harmonic numbers H(0) = 0, H(n) = 1 + 1/2 + ... + 1/n of whole numbers."""
    table = _harmonic_table(int(counts.max()).bit_length())
    return table[counts.astype(np.intp)]


@lru_cache(maxsize=32)
def _harmonic_table(bits: int) -> FloatArray:
    numbers = np.arange(1, 2**bits + 1, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(1 / numbers)])
