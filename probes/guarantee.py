"""The promise on accepted answers: Learn-then-Test with a fixed sequence of thresholds.

Angelopoulos et al. 2021 (arXiv 2110.01052), section 2.2 (fixed sequence testing) with the exact
binomial tail as p-value.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from probes.errors import BundleError, DataError
from probes.types import CONSISTENCY_MODES, ConsistencyMode, FloatArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TestedThreshold:
    """A threshold that passed: at it, ``wrong`` of ``accepted`` answers were wrong."""

    __test__ = False  # its name is not pytest's business

    threshold: float
    accepted: int
    wrong: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """Among accepted answers at most ``alpha`` are wrong, with confidence 1 - ``delta``.

    Args:
        id: ``c-`` and a hash of the other fields.
        alpha: error rate promised, 0 to 1.
        delta: chance, over calibration data, that the promise is broken.
        n: accepted answers that it was tested on.
        k: how many of them were wrong.
        threshold: an answer is accepted when its risk is at most this.
        self_consistency: mode of the policy that was tested.
        samples: sampled answers per question in that policy; 0 in mode ``never``.
        bundle: id of the bundle that gave the risks.
        model: revision of the model.
        data: fingerprint of the calibration answers.
        created: ISO 8601 with offset.
        expires: likewise.
        slices: the slices whose answers it is about; None for those of all slices together.
    """

    id: str
    alpha: float
    delta: float
    n: int
    k: int
    threshold: float
    self_consistency: ConsistencyMode
    samples: int
    bundle: str
    model: str
    data: str
    created: str
    expires: str
    slices: tuple[str, ...] | None = None

    def expired(self, now: datetime) -> bool:
        """Whether ``now`` (with a time zone) is at or past the end."""
        return now >= datetime.fromisoformat(self.expires)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; ``slices`` stands there only where it says something."""
        plain = dataclasses.asdict(self)
        slices = plain.pop("slices")
        return plain if slices is None else {**plain, "slices": list(slices)}

    @classmethod
    def sealed(cls, **fields: Any) -> Certificate:
        """With the id that its other fields, as :meth:`to_dict` gives them, have."""
        return cls.from_dict({**fields, "id": _certificate_id(fields)})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Certificate:
        """Read what :meth:`to_dict` wrote. Raises BundleError when a field was changed."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(fields) | {"slices"} != names:
            odd = min((set(fields) | {"slices"}) ^ names)
            raise BundleError(f"certificate.{odd}", "missing or unknown; certify again")
        slices = fields.get("slices")
        certificate = cls(**{**fields, "slices": None if slices is None else tuple(slices)})
        if certificate.id != _certificate_id(fields):
            raise BundleError("certificate.id", "does not fit the other fields; certify again")
        return certificate


@dataclass(frozen=True, slots=True)
class NoCertificate:
    """Nothing can be promised.

    Args:
        reason: ``too_few_answers`` (even without an error they could not prove it) or
            ``error_rate_too_high``.
        answers: independent answers that the policy could have accepted.
    """

    reason: Literal["too_few_answers", "error_rate_too_high"]
    answers: int


def threshold_ladder(
    risk: FloatArray, wrong: BoolArray, alpha: float, steps: int = 200
) -> NDArray[np.float64]:
    """Thresholds to test, strict to loose, from data that is *not* the calibration split.

    Quantiles of the risk, from the one at which these answers show best that the error rate is
    below alpha. Stricter ones accept too few answers to show anything, and the first failure ends
    the sequence.

    Args:
        risk: of the selection split, shape (n,); infinite ones are never accepted.
        wrong: shape (n,).
        alpha: error rate to be promised.
        steps: most thresholds.

    Returns shape (at most steps,), increasing; empty when nothing can be accepted.
    """
    usable = risk[np.isfinite(risk)]
    if usable.size == 0:
        return np.empty(0)
    quantiles = np.quantile(usable, np.arange(1, steps + 1) / steps, method="inverted_cdf")
    thresholds = np.unique(quantiles)
    accepted, errors = _counts(risk, wrong, thresholds)
    start = int(np.argmin(binom.logcdf(errors, accepted, alpha)))
    return np.asarray(thresholds[start:], dtype=np.float64)


def fixed_sequence(
    risk: FloatArray, wrong: BoolArray, thresholds: FloatArray, alpha: float, delta: float
) -> TestedThreshold | None:
    """The loosest threshold before the first that fails, or None when the first fails.

    At each threshold, of n accepted answers k are wrong; p = P(Binomial(n, alpha) <= k); it passes
    when p <= delta. The chance that the threshold returned has a true error rate above alpha is at
    most delta, for independent answers and thresholds fixed without looking at them.

    Args:
        risk: of the calibration split, one independent answer each, shape (n,).
        wrong: shape (n,).
        thresholds: strict to loose.
        alpha: error rate to be promised.
        delta: chance to be wrong about it.

    Raises ValueError when thresholds fall or alpha or delta is not between 0 and 1.
    """
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ValueError(f"alpha, delta: {alpha}, {delta} must lie between 0 and 1")
    if (np.diff(thresholds) < 0).any():
        raise ValueError("thresholds: must run from strict to loose")
    if len(thresholds) == 0:
        return None
    accepted, errors = _counts(risk, wrong, thresholds)
    p_values = binom.cdf(errors, accepted, alpha)
    failed = p_values > delta
    passed = int(np.argmax(failed)) if failed.any() else len(thresholds)
    if passed == 0:
        return None
    last = passed - 1
    return TestedThreshold(
        threshold=float(thresholds[last]),
        accepted=int(accepted[last]),
        wrong=int(errors[last]),
        p_value=float(p_values[last]),
    )


def one_per_image(groups: ArrayLike, seed: int) -> NDArray[np.intp]:
    """Indices of one random answer per image: answers on one image are not independent."""
    labels = np.asarray(groups)
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(order[np.unique(labels[order], return_index=True)[1]])


def certify(
    risk: FloatArray,
    wrong: BoolArray,
    groups: ArrayLike,
    thresholds: FloatArray,
    *,
    alpha: float,
    delta: float,
    self_consistency: ConsistencyMode,
    samples: int,
    bundle: str,
    model: str,
    data: str,
    created: datetime,
    valid_days: int,
    seed: int = 0,
    slices: tuple[str, ...] | None = None,
) -> Certificate | NoCertificate:
    """Certify a policy on the calibration split.

    One random answer per image is used. The promise is therefore about the answer to a random
    question on a random image; where images have unlike numbers of questions, it weighs images
    equally.

    Args:
        risk: :func:`probes.policy.composed_risk` of the calibration split, shape (n,).
        wrong: shape (n,).
        groups: image of each answer, shape (n,).
        thresholds: :func:`threshold_ladder` of the selection split.
        created: now, with a time zone.
        valid_days: days until it expires.
        seed: picks the answer per image.

    The other arguments are the certificate's fields. Raises DataError on an empty split and
    ValueError as :func:`fixed_sequence`, or when ``created`` has no time zone.
    """
    if created.tzinfo is None:
        raise ValueError("created: give a time with a time zone")
    if self_consistency not in CONSISTENCY_MODES:
        raise ValueError(f"self_consistency: {self_consistency!r} is no mode")
    if len(wrong) == 0:
        raise DataError("calibrate: no answers in this split; collect more")
    chosen = one_per_image(groups, seed)
    tested = fixed_sequence(risk[chosen], wrong[chosen], thresholds, alpha, delta)
    if tested is None:
        reachable = risk[chosen] <= (thresholds[-1] if len(thresholds) else -np.inf)
        answers = int(reachable.sum())
        few = (1 - alpha) ** answers > delta
        return NoCertificate("too_few_answers" if few else "error_rate_too_high", answers)
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
    }
    return Certificate.sealed(**fields, **({} if slices is None else {"slices": list(slices)}))


def answers_needed(alpha: float, delta: float) -> int:
    """Accepted answers that prove alpha at delta when none of them is wrong."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def _certificate_id(fields: Mapping[str, Any]) -> str:
    content = {name: value for name, value in fields.items() if name != "id"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"c-{digest[:16]}"


def _counts(
    risk: FloatArray, wrong: BoolArray, thresholds: FloatArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Accepted answers and errors among them, per threshold."""
    accepted = np.searchsorted(np.sort(risk), thresholds, side="right")
    errors = np.searchsorted(np.sort(risk[wrong]), thresholds, side="right")
    return accepted.astype(np.int64), errors.astype(np.int64)
