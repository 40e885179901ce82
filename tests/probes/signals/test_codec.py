from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import pytest

from probes.signals.codec import NOT_ASKED, parts_of, signals_of
from probes.signals.measure import Instruments
from probes.types import (
    AnswerForm,
    AttentionConcentration,
    Domain,
    Evidence,
    HiddenStateProbe,
    ImageCondition,
    ImageDomain,
    Missing,
    QuestionDomain,
    QuestionKind,
    SelfConsistency,
    Signals,
    TokenConfidence,
)

MEASURED = Signals(
    hidden_state_probe=HiddenStateProbe(0.25, (2, 5)),
    token_confidence=TokenConfidence(-0.1, 0.4, 0.9),
    self_consistency=SelfConsistency(0.8, 5, True, 0.8, 0.5),
    attention=AttentionConcentration(1.5, 0.7, 0.3, 2),
    evidence=Evidence(0.5, True, 0.1, False, 0.2, True),
    domain=Domain((ImageDomain(1.5, True),), QuestionDomain(3.0, True, "any")),
    image=ImageCondition(True, "cut short"),
    question_kind=QuestionKind("count"),
    answer_form=AnswerForm("repeats"),
)


@dataclass
class _Limit:
    limit: float
    mode: str = "any"


@dataclass
class _Limits:
    """Both sides of the domain; no probe is read."""

    domain: _Limit
    questions: _Limit | Missing


def limits(image: float = 2.0, question: float | None = 4.0) -> Instruments:
    asked = Missing("no_question_side") if question is None else _Limit(question)
    return cast(Instruments, _Limits(_Limit(image), asked))


def recorded(signals: Signals) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(parts_of(signals)))
    return read


def test_a_record_gives_back_what_was_measured_but_for_the_samples() -> None:
    assert signals_of(recorded(MEASURED), limits()) == replace(MEASURED, self_consistency=NOT_ASKED)


def test_a_record_gives_back_why_something_is_missing() -> None:
    missing = Signals(**{field.name: Missing("engine_error") for field in fields(Signals)})
    assert signals_of(recorded(missing), limits()) == replace(missing, self_consistency=NOT_ASKED)


@pytest.mark.parametrize(
    ("image", "question", "part"),
    [(1.0, 4.0, "image"), (2.0, 2.0, "question"), (2.0, None, None), (2.0, 4.0, None)],
)
def test_the_limits_are_those_of_today(image: float, question: float | None, part: Any) -> None:
    domain = signals_of(recorded(MEASURED), limits(image, question)).domain
    assert isinstance(domain, Domain)
    assert domain.part == part


def test_what_an_older_record_lacks_was_not_recorded() -> None:
    old = recorded(MEASURED)
    for name in ("question_kind", "answer_form", "image"):
        del old[name]
    old["domain"] = {"distance": 1.5, "inside": True}
    found = signals_of(old, limits())
    assert found.domain == Domain((ImageDomain(1.5, True),))
    assert {found.question_kind, found.answer_form, found.image} == {Missing("not_recorded")}
