"""The signals as plain JSON and back: the same in a response, a record and a replay.

Records keep the plain form for good, and their hash chains are over it: a field keeps its name and
its meaning, and what an older record lacks is read as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from probes.signals.measure import Instruments
from probes.signals.question import QuestionModel
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
    Signals,
    TokenConfidence,
)

NOT_ASKED = Missing("not_requested")
_NAMES = tuple(field.name for field in fields(Signals))


def parts_of(signals: Signals) -> dict[str, dict[str, Any]]:
    """Each signal by name, as the numbers that it holds or ``{"missing": reason}``."""
    return {name: _part(getattr(signals, name)) for name in _NAMES}


def signals_of(recorded: Mapping[str, Any], instruments: Instruments) -> Signals:
    """The signals of stage one, with the domain's limits as they are now.

    Args:
        recorded: by name, as :func:`parts_of` gave it; what an older record lacks is missing.
        instruments: hold both sides of the domain, such as a bundle.
    """
    probe, confidence = recorded.get("hidden_state_probe", {}), recorded.get("token_confidence", {})
    domain, attention = recorded.get("domain", {}), recorded.get("attention", {})
    evidence, image = recorded.get("evidence", {}), recorded.get("image", {})
    kind, form = recorded.get("question_kind", {}), recorded.get("answer_form", {})
    return Signals(
        hidden_state_probe=_missing(probe)
        or HiddenStateProbe(probe["logit"], tuple(probe["layers"])),
        token_confidence=_missing(confidence) or TokenConfidence(**confidence),
        self_consistency=NOT_ASKED,
        attention=_missing(attention) or AttentionConcentration(**attention),
        evidence=_missing(evidence) or Evidence(**evidence),
        domain=_missing(domain) or _domain(domain, instruments.domain.limit, instruments.questions),
        image=_missing(image) or ImageCondition(**image),
        question_kind=_missing(kind) or QuestionKind(kind["kind"]),
        answer_form=_missing(form) or AnswerForm(form["degenerate"]),
    )


def _domain(part: Mapping[str, Any], limit: float, questions: QuestionModel | Missing) -> Domain:
    """The domain of a record under other limits; an older record has no question side.

    Args:
        part: as :func:`parts_of` gave it, not missing.
        limit: the image side's. questions: of the same training questions and the same mode as
            those that measured the part.
    """
    told = part.get("images") or [{"distance": part["distance"]}]
    images = tuple(ImageDomain(one["distance"], one["distance"] <= limit) for one in told)
    asked = part.get("question", {})
    if isinstance(questions, Missing) or "surprise" not in asked:
        return Domain(images)
    bits, mode = asked["surprise"], questions.mode
    inside = bits <= questions.limit if mode == "any" else asked["inside"]
    return Domain(images, QuestionDomain(bits, inside, mode))


def _part(signal: Any) -> dict[str, Any]:
    if isinstance(signal, Missing):
        return {"missing": signal.reason}
    if isinstance(signal, Domain):
        return {
            "distance": signal.distance,
            "inside": signal.inside,
            "part": signal.part,
            "images": [asdict(image) for image in signal.images],
            "question": _part(signal.question),
        }
    return {name: getattr(signal, name) for name in signal.__slots__}


def _missing(part: Mapping[str, Any]) -> Missing | None:
    """Why a recorded signal is missing; None where it is there."""
    return Missing(part.get("missing", "not_recorded")) if "missing" in part or not part else None
