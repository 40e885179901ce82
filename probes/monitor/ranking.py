"""How well a signal ranks wrong above right answers, so far, from audited outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import t as student

from probes.types import FloatArray, Interval, Missing

LEAST_PER_CLASS = 10
"""Wrong, and right, answers below which no interval is given."""


def audited_auroc(
    risk: FloatArray, wrong: NDArray[np.bool_], probability: FloatArray, level: float = 0.95
) -> Interval | Missing:
    """Estimate the AUROC among the answers drawn from; each outcome weighs 1 / its probability.

    From audits of accepted answers alone it is the AUROC among accepted answers, lower than that
    among all. With every escalated answer judged as well (probability 1) it is that of all answers.

    The interval is DeLong's (1988) with weights, symmetric in log-odds, after one answer of either
    class with placement 1/2 is added (so a perfect ranking has an interval too), with the
    t-quantile of the smaller class's effective size (Kish 1965). Where the probabilities follow the
    signal itself by a factor of four, 95 % intervals covered in 87 % (about 25 wrong answers) to
    93 % (300) of simulations. It holds at one look, not at all looks together.

    Args:
        risk: the signal, higher is riskier, finite, shape (n,).
        wrong: shape (n,).
        probability: with which each answer's outcome was asked for, in (0, 1], shape (n,).
        level: of the interval.

    Returns the interval, or ``Missing("too_few_answers")`` of either class.
    Raises ValueError when a risk is not finite or a probability is outside (0, 1].
    """
    if not np.isfinite(risk).all():
        raise ValueError("risk: not finite; leave out the answers without this signal")
    if not ((probability > 0) & (probability <= 1)).all():
        raise ValueError("probability: must lie in (0, 1]; give the one recorded with the audit")
    if min(wrong.sum(), (~wrong).sum()) < LEAST_PER_CLASS:
        return Missing("too_few_answers")
    weight = 1 / probability
    beaten = _share_below(risk[wrong], risk[~wrong], weight[~wrong])
    beating = 1 - _share_below(risk[~wrong], risk[wrong], weight[wrong])
    area = float(np.average(beaten, weights=weight[wrong]))
    sides = [_side(beaten, weight[wrong]), _side(beating, weight[~wrong])]
    middle = (sides[0].mean + sides[1].mean) / 2
    error = math.sqrt(sides[0].variance + sides[1].variance)
    freedom = min(side.effective_size for side in sides) - 1
    half = float(student.ppf(0.5 + level / 2, freedom)) * error / (middle * (1 - middle))
    centre = math.log(middle / (1 - middle))
    lower, upper = float(expit(centre - half)), float(expit(centre + half))
    return Interval(area, min(lower, area), max(upper, area))


@dataclass(frozen=True, slots=True)
class _Side:
    """Mean placement of one class's answers among the other's, and how well it is known."""

    mean: float
    variance: float
    effective_size: float


def _side(placement: FloatArray, weight: FloatArray) -> _Side:
    placement = np.append(placement, 0.5)
    weight = np.append(weight, weight.mean())
    share = weight / weight.sum()
    mean = float(share @ placement)
    terms = share * (placement - mean)
    variance = float(terms @ terms) * len(terms) / (len(terms) - 1)
    return _Side(mean, variance, 1 / float(share @ share))


def _share_below(values: FloatArray, others: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted share of ``others`` below each value; equal ones count half."""
    order = np.argsort(others, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(weight[order])])
    ranked = others[order]
    below = reached[np.searchsorted(ranked, values, side="left")]
    up_to = reached[np.searchsorted(ranked, values, side="right")]
    return np.asarray((below + up_to) / (2 * reached[-1]))
