"""Which reason is told when several hold, and that the documents say the same."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from probes.model.certificate import Certificate
from probes.model.policy import Policy
from probes.model.precedence import RULES
from probes.types import (
    AnswerForm,
    Domain,
    HiddenStateProbe,
    ImageCondition,
    ImageDomain,
    Missing,
    QuestionDomain,
    Reason,
    RiskAssessment,
    Signals,
    TokenConfidence,
    Verdict,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "records.md"
CERTIFICATE = Certificate(
    "c-1", 0.1, 0.05, 100, 2, 0.3, "never", 0, "b-1", "r1", "d", "2026-01-01T00:00:00+00:00",
    "2027-01-01T00:00:00+00:00",
)  # fmt: skip
CAUSES: dict[str, dict[str, Any]] = {
    "damaged_image": {"image": ImageCondition(True, "cut short")},
    "out_of_domain": {"question": QuestionDomain(20.0, False, "any")},
    "degenerate_answer": {"form": AnswerForm("repeats")},
    "signal_unavailable": {"confidence": Missing("engine_error")},
    "certificate_void": {"certificate": Missing("certificate_void")},
    "no_certificate": {"certificate": Missing("no_certificate")},
    "risk_above_reject": {"risk": 0.9},
    "risk_above_threshold": {"risk": 0.5},
}
PRECEDENCE: tuple[tuple[Reason, Verdict], ...] = (
    *((rule.reason, rule.decision) for rule in RULES[:-1]),
    ("audit", "escalate"),  # drawn in service, of the answers that the last rule accepts
    (RULES[-1].reason, RULES[-1].decision),
)
"""Every reason with its decision, first to last, the draw of an audit among them."""


def reason_of(causes: dict[str, Any]) -> str:
    signals = Signals(
        hidden_state_probe=HiddenStateProbe(0.0, (1,)),
        token_confidence=causes.get("confidence", TokenConfidence(-0.1, 0.1, 1.0)),
        self_consistency=Missing("not_requested"),
        attention=Missing("not_requested"),
        evidence=Missing("not_requested"),
        domain=Domain(
            (ImageDomain(1.0, True),), causes.get("question", QuestionDomain(1.0, True, "any"))
        ),
        image=causes.get("image", ImageCondition(False)),
        answer_form=causes.get("form", AnswerForm(None)),
    )
    assessed = RiskAssessment(causes.get("risk", 0.1), 1, signals)
    decision = Policy(reject_above=0.8).decide(assessed, causes.get("certificate", CERTIFICATE))
    assert decision.decision == dict(PRECEDENCE)[decision.reason]
    return decision.reason


def test_every_reason_has_one_place() -> None:
    assert [reason for reason, _ in PRECEDENCE] == list(get_args(Reason))
    assert {rule.reason for rule in RULES} | {"audit"} == set(get_args(Reason))


def test_one_cause_gives_its_reason() -> None:
    assert reason_of({}) == "risk_below_threshold"
    for reason, causes in CAUSES.items():
        assert reason_of(causes) == reason


@pytest.mark.parametrize(("first", "second"), list(combinations(CAUSES, 2)))
def test_of_two_causes_the_first_is_told(first: str, second: str) -> None:
    assert reason_of(CAUSES[second] | CAUSES[first]) == first


def test_the_document_has_the_same_table() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert [(reason, decision) for _, reason, decision in rows] == list(PRECEDENCE)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(PRECEDENCE) + 1))
