"""Whether the promise on accepted answers still stands, from random audits: a test by betting.

The claim: of every group (an image) let Z be the sum of (wrong - alpha) over its accepted answers;
given the groups before, Z is at most 0 on average. That is what "at most alpha of the accepted
answers are wrong" says, however many questions an image has and however alike their errors are.

One bet per group (Waudby-Smith and Ramdas 2020, arXiv 2010.09686): its factor is

    1 + b sum v (Y / alpha - 1),    v = reference / inclusion probability,

over the group's audited answers, where Y is 1 for a wrong answer and 0 for a right one. Answers
accepted under several claims make one test: alpha is then the one promised of each answer. The
reference is fixed and stored at the draw, the same for all answers of a group and at most their
probabilities, so the sum is on average the reference times Z / alpha (Waudby-Smith et al. 2022,
arXiv 2210.10768) and no later rate weighs the past anew. A group counts at most
:data:`MOST_ANSWERS` audits, those whose ids have the smallest hashes; with b below 1 / MOST_ANSWERS
the factor stays above 0.

A good past must not pay for a bad present: the capital is a mixture over the group at which the
betting starts (e-detectors, Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532). Half starts with the
first group; of the other half 1 / log(e + k - 1) - 1 / log(e + k) starts with group k, and waits
until then. Per bet that is one number beside the sum of the log factors. The mixture has mean at
most 1 while the claim is true and ever reaches 1 / delta with chance at most delta (Ville).

Why the sum so far may be looked at: an audit that is not judged yet counts as right, which lowers
the capital, and with all outcomes known the capital of the first k groups is as above. It is
exact where the questions on an image are asked before the first of its outcomes comes; where
they are not, tests/statistics measures what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from probes.types import FloatArray, Interval, Missing

MOST_ANSWERS = 10
"""Audits of one group that count."""

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


@dataclass(slots=True)
class _Group:
    reference: float
    draws: list[Draw] = field(default_factory=list)

    def counted(self) -> list[Draw]:
        """At most :data:`MOST_ANSWERS` audits."""
        if len(self.draws) <= MOST_ANSWERS:
            return self.draws
        shuffled = sorted(self.draws, key=lambda draw: sha256(draw.id.encode()).digest())
        return shuffled[:MOST_ANSWERS]

    def sums(self) -> tuple[float, float, float]:
        """Weights of the answers found wrong, found right, and not judged."""
        found = {True: 0.0, False: 0.0, None: 0.0}
        for draw in self.counted():
            found[draw.wrong] += self.reference / draw.probability
        return found[True], found[False], found[None]

    def won(self, alpha: float) -> float:
        """Weight of the answers found wrong, each times ``alpha`` over what was promised of it."""
        return sum(
            self.reference / draw.probability * alpha / (draw.alpha or alpha)
            for draw in self.counted()
            if draw.wrong
        )


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMonitor:
    """What the audits say.

    Args:
        alpha: error rate promised, 0 to 1.
        delta: chance that the promise is found broken although it holds, 0 to 1.
        sums: per group the weights of wrong, right and not judged answers, shape (groups, 3).
        won: weights of wrong answers, times alpha over what was promised of each, shape (groups,).
        groups: their names, in the same order.
        error: estimated error rate, or ``Missing("no_outcomes")``.
        wrong: audits found wrong. audits: in all.
    """

    alpha: float
    delta: float
    sums: FloatArray
    won: FloatArray
    groups: tuple[str, ...]
    error: float | Missing
    wrong: int
    audits: int

    @classmethod
    def replay(cls, draws: Iterable[Draw], alpha: float, delta: float) -> ErrorMonitor:
        """From all audits of a promise, in the order in which their answers were accepted.

        A later audit of an earlier image, and an outcome that comes or is corrected, change that
        image's sum where it stands. Answers drawn under another reference than their group's
        first stay out: their share of Z would be another one.

        With outcomes that all come back, an error rate of 2 alpha is found within 500 audits (alpha
        5 %) or 250 audits (alpha 10 %) with chance at least 90 % where it holds from the first
        audit, and after 1,000 or 5,000 audits at 0.6 alpha within 500 or 700 audits in the median
        (alpha 5 %), one answer per image.

        Raises ValueError when alpha or delta is not in (0, 1).
        """
        if not (0 < alpha < 1 and 0 < delta < 1):
            raise ValueError(f"alpha, delta: {alpha}, {delta} must lie between 0 and 1")
        groups: dict[str, _Group] = {}
        mass = {True: 0.0, False: 0.0}
        wrong = audits = 0
        for draw in draws:
            group = groups.setdefault(draw.group, _Group(draw.reference))
            if draw.reference == group.reference:
                group.draws.append(draw)
            wrong += draw.wrong is True
            audits += 1
            if draw.wrong is not None:
                mass[draw.wrong] += 1 / draw.probability
        known = mass[True] + mass[False]
        sums = np.array([group.sums() for group in groups.values()], dtype=np.float64)
        won = np.array([group.won(alpha) for group in groups.values()], dtype=np.float64)
        error = mass[True] / known if known else Missing("no_outcomes")
        return cls(alpha, delta, sums.reshape(-1, 3), won, tuple(groups), error, wrong, audits)

    @property
    def evidence(self) -> float:
        """The capital over 1 / delta, at most: 1 or more says that the promise is broken.

        The capital stops where it first reached that: what comes later takes nothing back.
        """
        path = self._path()
        return math.exp(path[-1]) if len(path) else self.delta

    @property
    def carriers(self) -> tuple[str, ...]:
        """The groups that the evidence rests on: up to where the capital reached 1 / delta."""
        return self.groups[: len(self._path())]

    @property
    def void(self) -> bool:
        """Whether the promise is broken, by all that is known."""
        return self.evidence >= 1

    def _path(self) -> NDArray[np.float64]:
        """Log of the capital times delta after each group, up to where it first reached 0."""
        path = log_capital(self.won, self.sums.sum(axis=1), self.alpha) + math.log(self.delta)
        reached = np.flatnonzero(path >= 0)
        return path[: reached[0] + 1] if len(reached) else path

    def interval(self) -> Interval | Missing:
        """Error rate of accepted answers, so far.

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
    """Log of the capital against the claim ``rate`` after each group.

    Args:
        wrong: weight of the group's answers found wrong, shape (n,).
        total: weight of all its audited answers, at most :data:`MOST_ANSWERS`, shape (n,).
        rate: the claimed error rate, 0 to 1.

    Returns shape (n,); the claim is refused at level delta once it reaches log(1 / delta).
    """
    factors = _log_factors(wrong, total, rate)
    waiting = 1 / np.log(math.e + np.arange(len(wrong) + 1))  # share that starts later
    start = (waiting[:-1] - waiting[1:]) / 2
    start[:1] += 0.5
    after = factors.cumsum(axis=0)
    started = np.logaddexp.accumulate(np.log(start)[:, None] - (after - factors), axis=0)
    return np.asarray(np.logaddexp(_log_mean(after + started), np.log(waiting[1:] / 2)))


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
