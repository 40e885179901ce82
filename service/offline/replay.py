"""Judges a window of the records again, by other rules: what would they have decided?

What was recorded is judged again; no model runs. So the candidate's probe and domain model must be
those that read the recorded signals: other policies, certificates and calibrations can be replayed,
another probe cannot (score it beside with VLM_GATE_SHADOW_BUNDLE, and replay those records).
Each request is taken as asked with the bundle's own number of samples and length limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binomtest

from probes.model.bundle import Bundle
from probes.signals.codec import NOT_ASKED, signals_of
from probes.signals.question import QuestionModel
from probes.types import Decision, Interval, Missing, Verdict
from service.gate.candidate import judge
from service.gate.rules import Rules
from service.records.answer import AnswerRecord
from service.records.listing import Filter
from service.records.store import RecordStore
from service.records.words import judge as judge_outcome

GREEDY = "same"
"""Stands for the answer where samples are known by their number only."""


@dataclass(slots=True)
class Share:
    """Answers of one kind, and what is known of them.

    Args:
        answers: how many. judged: of those, with an outcome that counts. wrong: of those.
    """

    answers: int = 0
    judged: int = 0
    wrong: int = 0

    @property
    def error(self) -> Interval | Missing:
        """Wrong among judged, with the exact (Clopper-Pearson) 95 % interval."""
        if self.judged == 0:
            return Missing("no_outcomes")
        bounds = binomtest(self.wrong, self.judged).proportion_ci(method="exact")
        return Interval(self.wrong / self.judged, float(bounds.low), float(bounds.high))


@dataclass(slots=True)
class Replay:
    """What a replay found.

    Args:
        decisions: (recorded, candidate's) to answers. An answer that was escalated for an audit
            counts as accepted; the candidate's is ``unknown`` where ``reasons`` says why.
        reasons: why a candidate's decision is unknown, to answers.
        both: accepted then and by the candidate: of these only random audits count as judged.
        lost: accepted then, not by the candidate: likewise.
        won: not accepted then, but by the candidate: every outcome counts, whoever chose it.
    """

    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    both: Share = field(default_factory=Share)
    lost: Share = field(default_factory=Share)
    won: Share = field(default_factory=Share)

    @property
    def answers(self) -> int:
        """How many were replayed."""
        return self.decisions.total()

    @property
    def changed(self) -> int:
        """Answers whose decision is known to change."""
        return sum(n for (then, now), n in self.decisions.items() if now not in (then, "unknown"))


def replay(
    store: RecordStore, candidate: Rules, served: Bundle, where: Filter | None = None
) -> Replay:
    """Judge the records of a window by other rules. Waits for the database.

    Args:
        served: the bundle whose probe read the recorded signals.
        where: which records; all by default.

    Raises RecordsUnavailable.
    """
    found = Replay()
    for record, outcome in store.judged(where):
        then: Verdict = "accept" if record.reason == "audit" else record.decision
        decision = _decide(record, candidate, served)
        if isinstance(decision, Missing):
            found.reasons[decision.reason] += 1
            found.decisions[then, "unknown"] += 1
            continue
        now = decision.decision
        found.decisions[then, now] += 1
        if "accept" not in (then, now):
            continue
        share = found.won if then != "accept" else found.both if now == "accept" else found.lost
        share.answers += 1
        counts = record.audit if then == "accept" else True
        wrong = Missing("not_judged") if outcome is None else judge_outcome(record.answer, outcome)
        if counts and not isinstance(wrong, Missing):
            share.judged += 1
            share.wrong += wrong
    return found


def _decide(record: AnswerRecord, rules: Rules, served: Bundle) -> Decision | Missing:
    bundle = rules.bundle
    if record.bundle != bundle.id and not (record.bundle == served.id and _reads(served, bundle)):
        return _kept(record, rules)
    recorded = record.signals
    signals = signals_of(recorded, bundle)
    planned = bundle.generation.samples
    samples = _samples(recorded.get("self_consistency", {}), planned)
    if isinstance(samples, Missing) and samples.reason == "more_samples":
        return samples
    decision, _ = judge(
        rules,
        signals,
        record.self_consistency,
        samples,
        planned=planned,
        greedy=GREEDY,
        shortened=False,
        metadata=record.metadata,
    )
    return decision


def _kept(record: AnswerRecord, rules: Rules) -> Decision | Missing:
    """What the same candidate said while it was scored beside, under the same thresholds."""
    said, policy = record.candidate, rules.policy
    if said is None or said["bundle"] != rules.bundle.id:
        return Missing("another_bundle")
    if "missing" in said:
        return Missing(said["missing"])
    certificate = rules.certificate_for(
        record.self_consistency,
        rules.bundle.generation.samples,
        shortened=False,
        metadata=record.metadata,
    )
    thresholds = (policy.threshold(certificate), policy.reject_above)
    if (said["policy"], said["accept_below"], said["reject_above"]) != (policy.mode, *thresholds):
        return Missing("another_policy")
    names = ("decision", "reason", "accept_below", "reject_above", "certificate")
    return Decision(**{name: said[name] for name in names})


def _samples(consistency: Mapping[str, Any], planned: int) -> list[str] | Missing | None:
    """As many agreeing and other samples as were recorded: a risk knows no more of them."""
    if "samples" not in consistency:
        reason = consistency.get("missing", "not_requested")
        return None if reason == NOT_ASKED.reason else Missing(reason)
    count = consistency["samples"]
    if count > planned:
        return Missing("more_samples")
    agreeing = round(consistency["agreement"] * count)
    return [GREEDY] * agreeing + [f"other {index}" for index in range(count - agreeing)]


def _reads(one: Bundle, other: Bundle) -> bool:
    """Whether a bundle reads nothing of an answer but what the first one read."""
    first, second = one.probe, other.probe
    same = (first.layer, first.position) == (second.layer, second.position)
    if not _asks(one.questions, other.questions):
        return False
    arrays = (
        *((getattr(first, n), getattr(second, n)) for n in ("projection", "offset")),
        *((getattr(one.domain, n), getattr(other.domain, n)) for n in ("mean", "precision")),
    )
    kinds = other.kinds is None or (one.kinds is not None and other.kinds.same(one.kinds))
    return same and kinds and all(np.array_equal(left, right) for left, right in arrays)


def _asks(one: QuestionModel | Missing, other: QuestionModel | Missing) -> bool:
    """Whether a record of one tells what the other thinks of its question; limits may differ."""
    if isinstance(one, Missing) or isinstance(other, Missing):
        return isinstance(one, Missing) and isinstance(other, Missing)
    return one.mode == other.mode and one.same_questions(other)
