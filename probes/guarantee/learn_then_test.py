"""The promise on accepted answers: what a certificate says, and the test that gives one.

"Of accepted answers at most alpha are wrong", for a random accepted answer from groups like those
of calibration, independent of each other; with chance 1 - delta over calibration draws. The test is
that of :mod:`probes.guarantee.betting`.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.errors import DataError
from probes.guarantee.betting import GroupedAnswers, Ladder, fixed_sequence, groups_needed
from probes.model.certificate import Certificate, NoCertificate
from probes.types import CONSISTENCY_MODES, ConsistencyMode, FloatArray

BoolArray = NDArray[np.bool_]


def certify(
    risk: FloatArray,
    wrong: BoolArray,
    groups: ArrayLike,
    ladder: Ladder,
    *,
    alpha: float,
    delta: float,
    level: float | None = None,
    self_consistency: ConsistencyMode,
    samples: int,
    bundle: str,
    model: str,
    data: str,
    created: datetime,
    valid_days: int,
    seed: int = 0,
    slices: tuple[str, ...] | None = None,
    weight: FloatArray | None = None,
    unit: Literal["group", "image"] = "group",
    anchors: tuple[str, ...] | None = None,
) -> Certificate | NoCertificate:
    """Certify a policy on the calibration split.

    The promise is about accepted answers, however many an image has, up to ``ladder.most`` of each
    group; of larger ones so many random answers count. Groups must be independent.

    Args:
        risk: :func:`probes.guarantee.composed.composed_risk` of the calibration split, shape (n,).
        wrong: shape (n,).
        groups: of each answer, shape (n,).
        ladder: :func:`~probes.guarantee.betting.plan_ladder` of the selection split.
        delta: of the promise. level: this test's share of it; by default all.
        created: now, with a time zone.
        valid_days: days until it expires.
        seed: picks the answers of large groups, and U.
        weight: as :class:`~probes.guarantee.betting.GroupedAnswers` has it.

    The other arguments are the certificate's fields. Raises DataError on an empty split and
    ValueError as :func:`~probes.guarantee.betting.fixed_sequence`, or when ``created`` has no
    time zone.
    """
    if created.tzinfo is None:
        raise ValueError("created: give a time with a time zone")
    if self_consistency not in CONSISTENCY_MODES:
        raise ValueError(f"self_consistency: {self_consistency!r} is no mode")
    if len(wrong) == 0:
        raise DataError("calibrate: no answers in this split; collect more")
    level = delta if level is None else level
    answers = GroupedAnswers.of(risk, wrong, groups, most=ladder.most, seed=seed, weight=weight)
    tested = fixed_sequence(answers, ladder, alpha, level)
    if tested is None:
        return _none(answers, ladder, alpha, delta, level)
    fields: dict[str, Any] = {
        "alpha": alpha,
        "delta": delta,
        "n": tested.accepted,
        "k": tested.wrong,
        "threshold": tested.threshold,
        "self_consistency": self_consistency,
        "samples": samples,
        "bundle": bundle,
        "model": model,
        "data": data,
        "created": created.isoformat(),
        "expires": (created + timedelta(days=valid_days)).isoformat(),
        "test": "betting",
        "unit": unit,
        "estimand": "accepted_answer",
        "most_per_group": ladder.most,
        "groups": answers.count,
        "level": level,
    }
    said = {"slices": slices, "anchors": anchors}
    return Certificate.sealed(**fields, **{n: list(v) for n, v in said.items() if v is not None})


def _none(
    answers: GroupedAnswers, ladder: Ladder, alpha: float, delta: float, level: float
) -> NoCertificate:
    """Return what to report when the first threshold failed."""
    if len(ladder.thresholds) == 0:
        return NoCertificate("too_few_answers", 0, answers.count, level=level, delta=delta)
    first = float(ladder.thresholds[0])
    accepted, errors = answers.sums(first)
    needed = groups_needed(accepted, errors, alpha, level)
    high = errors.sum() > alpha * accepted.sum()
    return NoCertificate(
        "error_rate_too_high" if high else "too_few_answers",
        int((answers.risk <= ladder.thresholds[-1]).sum()),
        answers.count,
        first,
        int((answers.risk <= first).sum()),
        int((answers.wrong & (answers.risk <= first)).sum()),
        level,
        delta,
        None if math.isinf(needed) else max(1, math.ceil(needed) - answers.count),
    )
