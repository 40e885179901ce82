"""Every signal of one answer, measured by the same call offline and in service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from probes.signals.attention import measure_attention
from probes.signals.confidence import measure_confidence
from probes.signals.degenerate import measure_form
from probes.signals.domain import DomainModel, measure_domain
from probes.signals.hidden import measure_probe
from probes.signals.question import QuestionModel
from probes.signals.question_kind import KindModel, measure_question_kind
from probes.types import Generation, ImageCondition, Missing, Query, Signals

if TYPE_CHECKING:
    from probes.model.probe import LinearProbe


class Instruments(Protocol):
    """What measures signals: a bundle, or the part of one that training has so far."""

    @property
    def probe(self) -> LinearProbe: ...

    @property
    def domain(self) -> DomainModel: ...

    @property
    def questions(self) -> QuestionModel | Missing: ...

    @property
    def kinds(self) -> KindModel | None: ...


def measure(query: Query, generation: Generation, bundle: Instruments) -> Signals:
    """Measure every signal of an answer but self-consistency, which takes samples later.

    Args:
        query: what was asked.
        generation: the greedy answer and what was read on the way.
        bundle: holds the probe, both sides of the domain and, where the risk reads it, the model of
            kinds.
    """
    trace = generation.trace
    return Signals(
        hidden_state_probe=measure_probe(trace, bundle.probe),
        token_confidence=measure_confidence(trace),
        self_consistency=Missing("not_requested"),
        attention=measure_attention(trace),
        evidence=Missing("not_requested"),
        domain=measure_domain(query, trace, bundle.probe, bundle.domain, bundle.questions),
        image=ImageCondition(query.damage is not None, query.damage or ""),
        question_kind=measure_question_kind(query.question, bundle.kinds),
        answer_form=measure_form(generation.answer),
    )
