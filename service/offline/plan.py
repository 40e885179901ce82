"""How many GPUs and how many reviewers a site needs: arithmetic on measured numbers.

Nothing here is measured; each input is, and says where it comes from in docs/scaling.md.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

from probes.types import ConsistencyMode


class PlanError(Exception):
    """An input is missing or out of its range. Names it and the mend."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked, and what one replica and one reviewer can do.

    Args:
        questions_per_second: at the peak that is to be met.
        questions_per_day: for the reviewers, who may work off a peak later.
        answers_per_second: of one replica without self-consistency, measured (`vlm-gate bench`).
        gpus_per_replica: with tensor parallelism, more than one.
        sampling_cost_ratio: time of an answer with its samples over one without, 1 or more.
        sampled_share: of questions whose answers are sampled: 0 for ``never``, 1 for ``always``;
            for ``auto`` at most the share that stage one would escalate.
        utilisation: of a replica at the peak, below 1: what is left is the queue's room.
        accepted_share: of answers, by the certified policy on data like the site's.
        audit_share: of accepted answers that are judged.
        review_seconds: a person's time for one answer.
        reviewer_hours_per_day: of one reviewer.
    """

    questions_per_second: float
    questions_per_day: float
    answers_per_second: float
    accepted_share: float
    gpus_per_replica: int = 1
    sampling_cost_ratio: float = 1.0
    sampled_share: float = 0.0
    utilisation: float = 0.7
    audit_share: float = 0.02
    review_seconds: float = 20.0
    reviewer_hours_per_day: float = 6.0

    def __post_init__(self) -> None:
        for name in ("questions_per_second", "questions_per_day", "answers_per_second"):
            _require(name, getattr(self, name) > 0, "above 0")
        for name in ("review_seconds", "reviewer_hours_per_day", "gpus_per_replica"):
            _require(name, getattr(self, name) > 0, "above 0")
        for name in ("accepted_share", "sampled_share", "audit_share"):
            _require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        _require("utilisation", 0 < self.utilisation < 1, "between 0 and 1")
        _require("sampling_cost_ratio", self.sampling_cost_ratio >= 1, "1 or more")
        for field in fields(self):
            _require(field.name, math.isfinite(getattr(self, field.name)), "finite")


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes.

    Args:
        answers_per_second_per_replica: at the planned utilisation, samples included.
        replicas: for the peak.
        gpus: of all replicas.
        reviews_per_day: escalations, rejections and audits.
        reviewers: people at work each day.
        questions_per_day_per_reviewer: how many questions keep one reviewer busy.
    """

    answers_per_second_per_replica: float
    replicas: int
    gpus: int
    reviews_per_day: float
    reviewers: int
    questions_per_day_per_reviewer: float


def plan(demand: Demand) -> Plan:
    """Replicas for the peak, reviewers for the day.

    A share s of sampled answers that cost c each makes the mean answer 1 + s (c - 1) times as
    long. A question reaches a person when it is not accepted, or accepted and drawn for an audit.
    """
    mean_cost = 1 + demand.sampled_share * (demand.sampling_cost_ratio - 1)
    rate = demand.answers_per_second * demand.utilisation / mean_cost
    replicas = math.ceil(demand.questions_per_second / rate)
    reviewed_share = 1 - demand.accepted_share * (1 - demand.audit_share)
    reviews = demand.questions_per_day * reviewed_share
    per_reviewer = demand.reviewer_hours_per_day * 3600 / demand.review_seconds
    return Plan(
        answers_per_second_per_replica=rate,
        replicas=replicas,
        gpus=replicas * demand.gpus_per_replica,
        reviews_per_day=reviews,
        reviewers=math.ceil(reviews / per_reviewer),
        questions_per_day_per_reviewer=(
            per_reviewer / reviewed_share if reviewed_share else math.inf
        ),
    )


def accepted_share_of(evaluation: Path, mode: ConsistencyMode) -> float:
    """Share of test answers that the served certificate accepts, from ``vlm-gate evaluate``.

    Raises PlanError when the file is none or no certificate serves that mode.
    """
    path = evaluation / "evaluation.json" if evaluation.is_dir() else evaluation
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = {(row["alpha"], row["self_consistency"]): row for row in found["certificates"]}
        served = rows.get((found["serving_alpha"], mode), {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{path}: is not what vlm-gate evaluate wrote ({error})") from error
    if "certificate" not in served:
        raise PlanError(
            f"{path}: no certificate serves self-consistency {mode!r}, so nothing is accepted; "
            "certify first, or plan with --accepted-share"
        )
    return float(served["test"]["coverage"])


def _require(name: str, holds: bool, said: str) -> None:
    if not holds:
        raise PlanError(f"{name.replace('_', '-')}: must be {said}")
