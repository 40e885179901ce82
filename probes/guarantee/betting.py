"""The test behind a certificate: bets on sums over groups of answers.

What is tested is the sentence that a certificate says, the share of wrong answers among accepted
ones. Of group i (an image, or what the site names: a scene, a part, a batch) let Z_i be the sum of
(wrong - alpha) over its accepted answers. The share is at most alpha exactly where E[Z] <= 0, so a
threshold passes by rejecting E[Z] > 0. While that holds, the wealth of a bet against it,

    W = product over groups of (1 - bet * Z_i),    0 <= bet < 1 / (m (1 - alpha)),

has expectation at most 1 for any bet fixed without these labels (Waudby-Smith and Ramdas,
arXiv 2010.09686), for Z_i is at most m (1 - alpha) where a group counts at most m answers. With U
uniform on (0, 1) and fixed before a label is read, P(W >= U / level) <= level (Ramdas and Manole,
arXiv 2304.02611, the randomised Markov inequality). Thresholds are tested strict to loose until the
first that fails (Angelopoulos et al., arXiv 2110.01052, section 2.2): only the first one at which
the share is too large could break the promise, so all of them need no more than ``level``.

What is assumed: groups are drawn independently, like those to come. Answers within a group may
hang together in any way, and their number may tell how hard they are. The chance is over
calibration draws and U. Thresholds, bets and m come from other data.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from probes.types import FloatArray, Interval

BoolArray = NDArray[np.bool_]

MOST_PER_GROUP = 64
"""Answers of a group that count, at most: one huge group must not make all bets small."""
STEPS = 200
"""Thresholds of a ladder, at most."""
BOLDEST = 0.99
"""Largest bet, as a share of that at which a group of wrong answers would cost everything."""
BOLDEST_UNSEEN = 0.75
"""The same where the bet is not tried out on other data."""
BETS = np.linspace(0.02, BOLDEST, 40)
"""Bets that are tried out, as such shares."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupedAnswers:
    """The answers that a test counts, at most so many of each group.

    Args:
        risk: shape (n,); infinite ones are never accepted.
        wrong: shape (n,).
        group: index of each answer's group, 0 to ``count`` - 1, shape (n,).
        count: groups.
        uniform: U, fixed by the groups' names and a seed, 0 < U <= 1.
        weight: of each answer, at most 1, shape (n,); None for 1. Answers that came to be judged
            with unlike chances p weigh min(p) / p, so that E[Z] is that of all answers.
    """

    risk: FloatArray
    wrong: BoolArray
    group: NDArray[np.intp]
    count: int
    uniform: float
    weight: FloatArray | None = None

    @classmethod
    def of(
        cls,
        risk: FloatArray,
        wrong: BoolArray,
        groups: ArrayLike,
        *,
        most: int,
        seed: int,
        weight: FloatArray | None = None,
    ) -> GroupedAnswers:
        """Choose ``most`` random answers of each larger group; the seed chooses, no label does."""
        names, group = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        order = np.random.default_rng(seed).permutation(len(group))
        order = order[np.argsort(group[order], kind="stable")]
        start = np.searchsorted(group[order], np.arange(len(names)))
        place = np.arange(len(order)) - start[group[order]]
        kept = np.sort(order[place < most])
        uniform = _uniform(f"{seed}", *names)
        chosen = None if weight is None else weight[kept]
        return cls(risk[kept], wrong[kept], group[kept], len(names), uniform, chosen)

    def sums(self, threshold: float) -> tuple[FloatArray, FloatArray]:
        """Accepted answers of each group, and how many of them are wrong, (count,) each.

        Weighted, where answers have weights.
        """
        kept = self.risk <= threshold
        return self._summed(kept), self._summed(kept & self.wrong)

    def _summed(self, rows: BoolArray) -> FloatArray:
        weights = None if self.weight is None else self.weight[rows]
        summed = np.bincount(self.group[rows], weights, minlength=self.count)
        return np.asarray(summed, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """What must be fixed before any calibration label is read.

    Args:
        thresholds: strict to loose, shape (at most STEPS,); empty when nothing can be accepted.
        bets: one per threshold.
        most: answers of a group that count.
    """

    thresholds: FloatArray
    bets: FloatArray
    most: int


@dataclass(frozen=True, slots=True)
class TestedThreshold:
    """A tested threshold, at which ``wrong`` of ``accepted`` answers were wrong.

    Args:
        p_value: it passes at every level from this one on.
    """

    __test__ = False  # its name is not pytest's business

    threshold: float
    accepted: int
    wrong: int
    p_value: float


def plan_ladder(
    risk: FloatArray,
    wrong: BoolArray,
    groups: ArrayLike,
    *,
    alpha: float,
    level: float,
    count: int,
    most: int | None = None,
    steps: int = STEPS,
) -> Ladder:
    """Plan thresholds and bets on data that is *not* the calibration split.

    Quantiles of the risk, from the one at which these answers promise best that the test will pass:
    stricter ones accept too few answers to show anything, and the first failure ends the sequence.
    The bet of a threshold is the one of :data:`BETS` that makes passing likeliest there, with the
    log-wealth of ``count`` groups taken as normal, and one wrong answer more than was seen.

    Args:
        risk: of the selection split, shape (n,); infinite ones are never accepted.
        wrong: shape (n,).
        groups: of each answer, shape (n,).
        alpha: error rate to be promised.
        level: of the test. count: groups that it will have.
        most: answers of a group that count; by default those of the largest group here, up to
            :data:`MOST_PER_GROUP`.
        steps: most thresholds.
    """
    _check(alpha, level)
    if most is None:
        most = min(MOST_PER_GROUP, largest_group(groups))
    usable = risk[np.isfinite(risk)]
    if usable.size == 0:
        return Ladder(np.empty(0), np.empty(0), most)
    quantiles = np.quantile(usable, np.arange(1, steps + 1) / steps, method="inverted_cdf")
    thresholds = np.unique(quantiles)
    seen = GroupedAnswers.of(risk, wrong, groups, most=most, seed=0)
    aim = math.log(1 / level) - 1  # the mean of log U is -1
    bets, hope = np.empty(len(thresholds)), np.empty(len(thresholds))
    for step, threshold in enumerate(thresholds):
        accepted, errors = seen.sums(threshold)
        sums, times = np.unique(errors - alpha * accepted, return_counts=True)
        sums, times = np.append(sums, 1 - alpha), np.append(times, 1)
        gains = np.log1p(-np.outer(BETS / (most * (1 - alpha)), sums))
        mean = gains @ times / times.sum()
        spread = np.sqrt(((gains - mean[:, None]) ** 2) @ times / times.sum())
        hopes = (count * mean - aim) / (math.sqrt(count) * spread)
        best = int(np.argmax(hopes))
        bets[step], hope[step] = BETS[best] / (most * (1 - alpha)), hopes[best]
    start = int(np.argmax(hope))
    return Ladder(thresholds[start:], bets[start:], most)


def fixed_sequence(
    answers: GroupedAnswers, ladder: Ladder, alpha: float, level: float
) -> TestedThreshold | None:
    """Return the loosest threshold before the first that fails, or None when the first fails.

    Raises ValueError when thresholds fall, a bet could cost everything, or alpha or level is not
    between 0 and 1.
    """
    _check(alpha, level)
    if (np.diff(ladder.thresholds) < 0).any():
        raise ValueError("thresholds: must run from strict to loose")
    if (ladder.bets < 0).any() or (ladder.bets * ladder.most * (1 - alpha) >= 1).any():
        raise ValueError("bets: must lie from 0 to below 1 / (most * (1 - alpha))")
    passed = None
    for threshold, bet in zip(ladder.thresholds, ladder.bets, strict=True):
        tested = try_threshold(answers, float(threshold), float(bet), alpha)
        if tested.p_value > level:
            break
        passed = tested
    return passed


def try_threshold(
    answers: GroupedAnswers, threshold: float, bet: float, alpha: float
) -> TestedThreshold:
    """Test one threshold: its p-value is U / W, at most 1."""
    accepted, wrong = answers.sums(threshold)
    log_wealth = float(np.log1p(-bet * (wrong - alpha * accepted)).sum())
    p_value = math.exp(min(0.0, math.log(answers.uniform) - log_wealth))
    kept = answers.risk <= threshold
    return TestedThreshold(threshold, int(kept.sum()), int((kept & answers.wrong).sum()), p_value)


def error_bound(
    accepted: FloatArray, wrong: FloatArray, *, bet: float, level: float, uniform: float = 1.0
) -> float:
    """Return the largest error rate of accepted answers that these groups do not exclude.

    The test above, inverted over alpha: the wealth grows with alpha for a fixed bet, so all rates
    above the bound are rejected. It is too low with chance at most ``level``.

    Args:
        accepted, wrong: per group, (groups,); at most m of each group.
        bet: fixed without these labels, 0 to below 1 / m.
        uniform: U, likewise; 1 does without.

    Returns 1 when nothing is excluded.
    """
    aim = math.log(uniform / level)

    def above(alpha: float) -> float:
        return float(np.log1p(-bet * (wrong - alpha * accepted)).sum()) - aim

    return 1.0 if above(1.0) < 0 else float(brentq(above, 0.0, 1.0)) if above(0.0) < 0 else 0.0


def error_interval(
    accepted: FloatArray, wrong: FloatArray, *, bet: float, level: float = 0.05
) -> Interval:
    """Return the accepted answers' error rate with bounds that hold with chance 1 - ``level``.

    Arguments as :func:`error_bound`; the lower bound is the same bet on the other side. Needs at
    least one accepted answer.
    """
    aim = math.log(2 / level)

    def below(alpha: float) -> float:
        return float(np.log1p(bet * (wrong - alpha * accepted)).sum()) - aim

    return Interval(
        float(wrong.sum() / accepted.sum()),
        float(brentq(below, 0.0, 1.0)) if below(0.0) > 0 else 0.0,
        error_bound(accepted, wrong, bet=bet, level=level / 2),
    )


def bound_bet(
    accepted: FloatArray, wrong: FloatArray, *, level: float, count: int, most: int
) -> float:
    """Choose a bet for :func:`error_bound` on groups other than those it is used on.

    Args:
        count: groups that it is to be used on. most: answers of each that count.
    """
    rate = (wrong.sum() + 0.5) / (accepted.sum() + 1.0)
    return blind_bet(float(((wrong - rate * accepted) ** 2).mean()), most, level=level, count=count)


def blind_bet(spread: float, largest: float, *, level: float, count: int) -> float:
    """Return a bet without any data to try it on: sqrt(2 log(1 / level) / (count E[Z^2])).

    It makes passing likeliest where the log-wealth is about normal (2010.09686, section 4).

    Args:
        spread: E[Z^2]. largest: of Z.
        level: of the test. count: groups that it has.
    """
    wanted = math.sqrt(2 * math.log(1 / level) / (max(1, count) * spread)) if spread else math.inf
    return min(wanted, BOLDEST_UNSEEN / largest)


def groups_needed(accepted: FloatArray, wrong: FloatArray, alpha: float, level: float) -> float:
    """Estimate how many groups like these would show that the error rate is at most alpha.

    By the fastest growth of the log-wealth among bets; infinite where it does not grow.
    """
    sums = wrong - alpha * accepted
    largest = max(1.0, float(accepted.max(initial=1.0))) * (1 - alpha)
    growth = max(float(np.log1p(-bet * sums).mean()) for bet in BETS / largest)
    return math.log(1 / level) / growth if growth > 0 else math.inf


def largest_group(groups: ArrayLike) -> int:
    """Return the number of answers in the largest group; 1 where there are none."""
    return int(np.unique(np.asarray(groups), return_counts=True)[1].max(initial=1))


def _check(alpha: float, level: float) -> None:
    if not (0 < alpha < 1 and 0 < level < 1):
        raise ValueError(f"alpha, level: {alpha}, {level} must lie between 0 and 1")


def _uniform(*words: str) -> float:
    digest = hashlib.sha256("\n".join(words).encode()).digest()
    return (int.from_bytes(digest[:8], "big") + 1) / 2**64
