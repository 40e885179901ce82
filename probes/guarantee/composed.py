"""The whole policy of many answers at once: the least threshold at which it accepts each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView, measure_proper, measure_risk
from probes.model.bundle import Bundle
from probes.types import (
    CONSISTENCY_MODES,
    ConsistencyMode,
    FloatArray,
    Missing,
)


def composed_risk(
    stage_one: FloatArray,
    stage_two: FloatArray | None,
    inside: NDArray[np.bool_],
    mode: ConsistencyMode,
    reject_above: float | None,
) -> FloatArray:
    """The least threshold at which the whole policy accepts each answer; infinite when never.

    Turns stage one, self-consistency in the middle band, the out-of-domain rule and rejection into
    one number, so that the policy is certified as it decides.

    Args:
        stage_one: risk without self-consistency, (answers,); infinite where it is missing.
        stage_two: risk with it, likewise; not needed in mode ``never``.
        inside: within the domain of validity, and no degenerate answer, (answers,).
        mode: ``never`` decides on stage one, ``always`` on stage two; in ``auto`` an acceptance by
            stage one stands, and another answer gets stage two unless stage one rejects it.
        reject_above: risk above which an answer is rejected; ``None`` rejects nothing.
    """
    limit = np.inf if reject_above is None else reject_above
    if mode == "never":
        risk = stage_one
    elif stage_two is None:
        raise ValueError(f"stage_two: needed in mode {mode!r}")
    elif mode == "always":
        risk = stage_two
    else:
        known = np.isfinite(stage_one) & (stage_one <= limit)
        risk = np.where(known, np.minimum(stage_one, stage_two), np.inf)
    return np.asarray(np.where(inside & (risk <= limit), risk, np.inf), dtype=np.float64)


def composed_reject(
    stage_one: FloatArray,
    stage_two: FloatArray | None,
    inside: NDArray[np.bool_],
    mode: ConsistencyMode,
    reject_above: float | None,
    accept_below: float,
) -> NDArray[np.bool_]:
    """Which answers the whole policy rejects at a threshold, (answers,).

    Arguments as :func:`composed_risk`; ``accept_below`` matters in mode ``auto``, where an answer
    that stage one accepts is not asked again. It may be minus infinity.
    """
    if reject_above is None:
        return np.zeros(len(stage_one), dtype=bool)

    def above(risk: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(risk) & (risk > reject_above))

    if mode == "never":
        return np.asarray(inside & above(stage_one))
    if stage_two is None:
        raise ValueError(f"stage_two: needed in mode {mode!r}")
    if mode == "always":
        return np.asarray(inside & above(stage_two))
    asked = np.isfinite(stage_one) & (stage_one > accept_below)
    return np.asarray(inside & (above(stage_one) | (asked & above(stage_two))))


@dataclass(frozen=True, slots=True, eq=False)
class StageRisks:
    """What the policy is composed of, per answer.

    Args:
        first: risk without self-consistency, (n,); infinite where it is missing.
        second: risk with it, likewise, or None where it was not collected.
        inside: within both sides of the domain of validity, and no degenerate answer, (n,).
    """

    first: FloatArray
    second: FloatArray | None
    inside: NDArray[np.bool_]


def stage_risks(view: StoreView) -> StageRisks:
    """Both stages' risks of every answer, and whether the policy looks at them at all."""
    image, question = view.inside
    second = view.bundle.stage_two
    return StageRisks(
        measure_risk(view.columns, view.bundle.stage_one),
        None if isinstance(second, Missing) else measure_risk(view.columns, second),
        image & question & measure_proper(view.store),
    )


def modes_of(bundle: Bundle) -> tuple[ConsistencyMode, ...]:
    """The self-consistency modes that the bundle can serve."""
    return CONSISTENCY_MODES if not isinstance(bundle.stage_two, Missing) else ("never",)


def policy_risk(risks: StageRisks, bundle: Bundle, mode: ConsistencyMode) -> FloatArray:
    """The least threshold at which the bundle's whole policy accepts each answer, (n,)."""
    return composed_risk(risks.first, risks.second, risks.inside, mode, bundle.policy.reject_above)
