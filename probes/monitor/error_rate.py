"""Tests by betting, on random audits, whether the promise on accepted answers still holds.

The claim: of every group (an image) let Z be the sum of (wrong - alpha) over its accepted answers;
given the groups before, Z is at most 0 on average. That is what "at most alpha of the accepted
answers are wrong" says, however many questions an image has and however alike their errors are.

One bet per group (Waudby-Smith and Ramdas 2020, arXiv 2010.09686): its factor is

    1 + b s sum v (Y / alpha - 1),    v = reference / inclusion probability,

over the group's audited answers, where Y is 1 for a wrong answer and 0 for a right one. Answers
accepted under several claims make one test: alpha is then the one promised of each answer. The
reference is fixed and stored at the draw and at most the probability, so where it stays the same
the sum is on average the reference times Z / alpha (Waudby-Smith et al. 2022, arXiv 2210.10768),
and no later rate weighs the past anew. A group weighs at most :data:`MOST_ANSWERS`: s is 1 up to
there, and then that over the sum of v. With b below 1 / MOST_ANSWERS the factor stays above 0.

A good past must not pay for a bad present: the capital is a mixture over the group at which the
betting starts (e-detectors, Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532). Half starts with the
first group; of the other half 1 / log(e + k - 1) - 1 / log(e + k) starts with group k, and waits
until then. The mixture has mean at most 1 while the claim is true.

The capital is taken after each audit, over all groups as they stand by then, never over the first
groups with what later audits made of them: groups whose audits come in turns then have one history
of the capital, not a new one with every audit. Given the audits before, a new one raises the
capital by nothing on average while its answer errs at most at alpha, whatever group it is of; so
the capital ever reaches 1 / delta with chance at most delta (Ville). Where answers of a group are
alike or unlike in the order of their questions, that is exact where a group's audits come one after
the other and it is looked at behind them; otherwise tests/statistics measures what it costs.

An audit that is not judged yet counts as right, which lowers the capital at all times: outcomes may
come late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from probes.types import FloatArray, Interval, Missing

MOST_ANSWERS = 10
"""What a group weighs at most: so many audits of weight 1."""

BETS: NDArray[np.float64] = np.geomspace(0.01, 0.95 / MOST_ANSWERS, 8)
"""Shares of the capital that are lost on a right answer of weight 1; shared out equally."""


@dataclass(frozen=True, slots=True)
class Draw:
    """An accepted answer that was drawn for an audit.

    Args:
        id: the answer's.
        group: whose sum it belongs to: its image's hash.
        probability: with which it was drawn, 0 to 1.
        reference: fixed at the draw, above 0 and at most the probability: the least rate then.
        wrong: what it turned out to be; None while that is not known.
        alpha: error rate promised of it, 0 to 1; None: the one that is tested.
    """

    id: str
    group: str
    probability: float
    reference: float
    wrong: bool | None
    alpha: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.reference <= self.probability <= 1:
            raise ValueError(
                f"probability, reference: {self.probability}, {self.reference} of {self.id} must "
                "lie in (0, 1], the reference at most at the probability"
            )


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMonitor:
    """The state of the promise after the audits so far.

    Args:
        alpha: error rate promised, 0 to 1.
        delta: chance that the promise is found broken although it holds, 0 to 1.
        sums: per group the weights of wrong, right and not judged answers, shape (groups, 3).
        audited: ids of the audits in their order.
        capital: log of the capital times delta after each of them, shape (audits,).
        error: estimated error rate, or ``Missing("no_outcomes")``.
        wrong: audits found wrong.
    """

    alpha: float
    delta: float
    sums: FloatArray
    audited: tuple[str, ...]
    capital: FloatArray
    error: float | Missing
    wrong: int

    @classmethod
    def replay(cls, draws: Iterable[Draw], alpha: float, delta: float) -> ErrorMonitor:
        """Replay all audits of a promise, in the order in which their answers were accepted.

        With outcomes that all come back, an error rate of 2 alpha is found within 500 audits (alpha
        5 %) or 250 audits (alpha 10 %) with chance at least 90 % where it holds from the first
        audit, and after 1,000 or 5,000 audits at 0.6 alpha within 500 or 700 audits in the median
        (alpha 5 %), one answer per image.

        Raises ValueError when alpha or delta is not in (0, 1).
        """
        if not (0 < alpha < 1 and 0 < delta < 1):
            raise ValueError(f"alpha, delta: {alpha}, {delta} must lie between 0 and 1")
        draws = list(draws)
        numbers: dict[str, int] = {}
        group = np.array([numbers.setdefault(one.group, len(numbers)) for one in draws], dtype=int)
        after, won = _sums(draws, group, alpha)
        path = _capital_in_turns(group, won, after.sum(axis=1), alpha) + math.log(delta)
        sums = np.zeros((len(numbers), 3))
        sums[group] = after  # the last one of each group stays
        mass = {
            wrong: sum(1 / one.probability for one in draws if one.wrong is wrong)
            for wrong in (True, False)
        }
        known = mass[True] + mass[False]
        error = mass[True] / known if known else Missing("no_outcomes")
        wrong = sum(one.wrong is True for one in draws)
        return cls(alpha, delta, sums, tuple(one.id for one in draws), path, error, wrong)

    @property
    def audits(self) -> int:
        """Number of audits."""
        return len(self.audited)

    @property
    def evidence(self) -> float:
        """The capital over 1 / delta, at most: 1 or more says that the promise is broken.

        The capital stops where it first reached that: what comes later takes nothing back.
        """
        return math.exp(self.capital[len(self.carriers) - 1]) if self.audits else self.delta

    @property
    def carriers(self) -> tuple[str, ...]:
        """The audits behind the evidence: up to where the capital reached 1 / delta."""
        reached = np.flatnonzero(self.capital >= 0)
        return self.audited[: reached[0] + 1] if len(reached) else self.audited

    @property
    def void(self) -> bool:
        """Whether the audits show that the promise is broken."""
        return self.evidence >= 1

    def interval(self) -> Interval | Missing:
        """Estimate the error rate of accepted answers so far.

        The estimate weighs the known outcomes by 1 / inclusion probability. Each bound alone holds
        after every audit with chance at least 1 - delta while the rate does not change; open audits
        count as right in the lower and as wrong in the upper bound. It is about the whole past, so
        it does not say when the promise is void: :attr:`evidence` does.
        ``Missing("no_outcomes")`` before the first outcome.
        """
        if isinstance(self.error, Missing):
            return self.error
        lower = _lower_bound(self.sums, self.delta)
        upper = 1 - _lower_bound(self.sums[:, [1, 0, 2]], self.delta)
        return Interval(self.error, lower, upper)


def log_capital(wrong: FloatArray, total: FloatArray, rate: float) -> NDArray[np.float64]:
    """Compute the log of the capital against the claim ``rate`` after each group.

    Args:
        wrong: weight of the group's answers found wrong, shape (n,).
        total: weight of all its audited answers, at most :data:`MOST_ANSWERS`, shape (n,).
        rate: the claimed error rate, 0 to 1.

    Returns shape (n,); the claim is refused at level delta once it reaches log(1 / delta).
    """
    factors = _log_factors(wrong, total, rate)
    start, waiting = _shares(len(wrong))
    after = factors.cumsum(axis=0)
    started = np.logaddexp.accumulate(start[:, None] - (after - factors), axis=0)
    return np.asarray(np.logaddexp(_log_mean(after + started), waiting))


def _capital_in_turns(
    group: NDArray[np.int_], wrong: FloatArray, total: FloatArray, rate: float
) -> NDArray[np.float64]:
    """:func:`log_capital` after each audit, where a group may have several, in any order.

    ``group``: number of each audit's group, in the order of their first audits. ``wrong``,
    ``total``: of that group with this audit. All of shape (n,).

    The groups are the leaves of a binary tree. A node keeps the product of its groups' factors, and
    the capital that started in it; an audit changes the nodes above its group, one per level.
    """
    groups = np.maximum.accumulate(group) + 1  # that there are after each audit
    if len(group) and groups[-1] == len(group):
        return log_capital(wrong, total, rate)
    start, waiting = _shares(int(groups[-1]) if len(group) else 0)
    node, time = group, np.arange(len(group))
    product = _log_factors(wrong, total, rate)
    started = start[group][:, None] + product
    while node.any():
        order = np.lexsort((time, node >> 1))
        node, time, product, started = node[order], time[order], product[order], started[order]
        place = np.arange(len(node))
        first = np.searchsorted(node >> 1, node >> 1)  # row of the same parent
        states = []
        for side in (0, 1):
            last = np.maximum.accumulate(np.where(node & 1 == side, place, -1))
            there = (last >= first)[:, None]
            states.append(
                (np.where(there, product[last], 0), np.where(there, started[last], -np.inf))
            )
        (left, left_started), (right, right_started) = states
        product, started = left + right, np.logaddexp(left_started + right, right_started)
        node = node >> 1
    return np.asarray(np.logaddexp(_log_mean(started), waiting[groups - 1]))


def _shares(groups: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logs of the share of the capital that starts with each group, and that waits after it."""
    waiting = 1 / np.log(math.e + np.arange(groups + 1))
    start = (waiting[:-1] - waiting[1:]) / 2
    start[:1] += 0.5
    return np.log(start), np.log(waiting[1:] / 2)


def _sums(
    draws: Sequence[Draw], group: NDArray[np.int_], alpha: float
) -> tuple[FloatArray, FloatArray]:
    """Of a draw's group with this draw: what its audits weigh.

    Returns the weights of wrong, right and not judged ones, (n, 3); and of the wrong ones, each
    times ``alpha`` over what was promised of it, (n,).
    """
    columns = {True: 0, False: 1, None: 2}
    sums: dict[int, NDArray[np.float64]] = {}
    found = np.zeros((len(draws), 4))
    for row, (draw, number) in enumerate(zip(draws, group.tolist(), strict=True)):
        total = sums.setdefault(number, np.zeros(4))
        weight = draw.reference / draw.probability
        total[columns[draw.wrong]] += weight
        if draw.wrong:
            total[3] += weight * alpha / (draw.alpha or alpha)
        found[row] = total
    scale = MOST_ANSWERS / np.maximum(found[:, :3].sum(axis=1), MOST_ANSWERS)
    scaled = found * scale[:, None]
    return scaled[:, :3], scaled[:, 3]


def _log_factors(wrong: FloatArray, total: FloatArray, rate: float) -> NDArray[np.float64]:
    """Log factors of groups, (n, bets)."""
    return np.log1p((wrong / rate - total)[:, None] * BETS)


def _log_mean(logs: FloatArray) -> NDArray[np.float64]:
    """Log of the mean of exp(logs) over the last axis."""
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - math.log(logs.shape[-1]))


def _lower_bound(sums: FloatArray, delta: float) -> float:
    """Largest refused claim "at most this share are hits"; the capital, started once, falls in it.

    ``sums``: weights of hits, misses and unknown ones, which count as misses.
    """
    rows, counts = np.unique(sums, axis=0, return_counts=True)
    hits, total = rows[:, 0], rows.sum(axis=1)

    def excess(log_rate: float) -> float:
        factors = _log_factors(hits, total, math.exp(log_rate))
        return float(_log_mean(counts @ factors)) + math.log(delta)

    lowest = math.log(1e-12)
    if excess(lowest) <= 0:
        return 0.0
    return math.exp(brentq(excess, lowest, 0.0, xtol=1e-9))


def spread(probability: float, counts: Sequence[int], name: str) -> list[Draw]:
    """Audits of which only counts are left, wrong, right and not judged: evenly spread.

    Each stands for a group of its own, and weighs 1.
    """
    kinds: tuple[bool | None, ...] = (True, False, None)
    places = sorted(
        ((number + 0.5) / count, index, number)
        for index, count in enumerate(counts)
        for number in range(count)
    )
    return [
        Draw(id_, id_, probability, probability, kinds[index])
        for _, index, number in places
        for id_ in [f"{name}:{probability}:{index}:{number}"]
    ]
