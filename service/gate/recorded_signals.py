"""A record -> the signals that it was decided by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.model.bundle import Bundle
from probes.types import (
    AnswerForm,
    AttentionConcentration,
    Evidence,
    HiddenStateProbe,
    ImageCondition,
    Missing,
    QuestionKind,
    Signals,
    TokenConfidence,
)
from service.gate.signal_parts import recorded_domain

NOT_ASKED = Missing("not_requested")


def signals_of(recorded: Mapping[str, Any], bundle: Bundle) -> Signals:
    """The signals of stage one, with the limits of ``bundle`` to the domain.

    Args:
        recorded: by name, as in the record; a missing one is ``{"missing": reason}``.
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
        domain=_missing(domain) or recorded_domain(domain, bundle.domain.limit, bundle.questions),
        image=_missing(image) or ImageCondition(**image),
        question_kind=_missing(kind) or QuestionKind(kind["kind"]),
        answer_form=_missing(form) or AnswerForm(form["degenerate"]),
    )


def _missing(part: Mapping[str, Any]) -> Missing | None:
    """Why a recorded signal is missing; None where it is there."""
    return Missing(part.get("missing", "not_recorded")) if "missing" in part or not part else None
