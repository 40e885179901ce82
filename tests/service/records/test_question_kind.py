"""A bundle whose risk weighs its signals by kind of question, served, recorded and replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.model.bundle import Bundle
from probes.model.calibration import PlattMap
from probes.model.policy import Policy
from probes.model.risk import RiskModel
from probes.signals.question_kind import KindModel
from service.gate.rules import Rules
from service.offline.replay import replay
from service.records.head import SigningKey

pytestmark = pytest.mark.anyio
WEIGHTS = np.array([[3.0, -3.0], [-3.0, 3.0]])
KINDS = KindModel(("count", "defect"), ("many", "whole"), WEIGHTS, np.zeros(2))
QUESTIONS = [
    text.format(number)
    for number in range(12)
    for text in ("How many screws has {}?", "Is {} whole?", "Colour of {}?")
]


def weighed(bundle: Bundle, calibration: PlattMap | None = None) -> Bundle:
    """Questions of kind count have a risk of their own, and the kind is required."""
    stage = RiskModel(
        ("probe_logit", "kind@count", "probe_logit@count"),
        np.array([0.5, 1.0, -1.0]),
        0.0,
        calibration or PlattMap(1.0, 0.0),
    )
    policy = Policy(reject_above=0.95, required=("hidden_state_probe", "domain", "question_kind"))
    return replace(bundle, stage_one=stage, kinds=KINDS, policy=policy)


@pytest.fixture
def ask(serve: Any, png: bytes) -> Callable[..., Any]:
    async def run(bundle: Bundle, **settings: Any) -> tuple[list[dict[str, Any]], str]:
        async with serve(bundle, **settings) as client:
            told = [
                (
                    await client.post("/v1/answer", data={"question": one}, files={"image": png})
                ).json()
                for one in QUESTIONS
            ]
            return told, (await client.get("/metrics")).text

    return run


async def test_the_kind_is_told_and_weighed(ask, bundled) -> None:
    bundle = weighed(bundled(threshold=0.5))
    told, metrics = await ask(bundle)
    for number, (question, one) in enumerate(zip(QUESTIONS, told, strict=True)):
        kind, logit = one["signals"]["question_kind"], one["signals"]["hidden_state_probe"]["logit"]
        if number % 3 == 2:
            assert kind == {"missing": "unknown_words"}, question
            assert (one["decision"], one["reason"]) == ("escalate", "signal_unavailable")
            assert one["risk"]["status"] == "unknown_words"
            continue
        count = number % 3 == 0
        assert kind == {"kind": "count" if count else "defect"}, question
        expected = 1.0 - 0.5 * logit if count else 0.5 * logit
        assert one["risk"]["score"] == pytest.approx(1 / (1 + np.exp(-expected)))
        assert one["reason"] != "signal_unavailable"
    line = 'vlm_gate_signal_failures_total{reason="unknown_words",signal="question_kind"} 12.0'
    assert line in metrics


async def test_a_bundle_that_does_not_weigh_it_asks_for_none(ask, bundled) -> None:
    told, metrics = await ask(bundled(threshold=0.5))
    assert {str(one["signals"]["question_kind"]) for one in told} == {
        str({"missing": "not_requested"})
    }
    assert 'signal="question_kind"' not in metrics


async def test_a_replay_weighs_the_recorded_kind(
    ask, bundled, url, tmp_path: Path, open_store
) -> None:
    served = weighed(bundled(threshold=0.5))
    stage = weighed(served, PlattMap(1.5, 0.4))
    candidate = replace(stage, id="b-other")
    then, _ = await ask(served, records_url=url)
    now, _ = await ask(candidate)
    pairs = Counter((a["decision"], b["decision"]) for a, b in zip(then, now, strict=True))
    key = SigningKey.load_or_create(tmp_path / "vlm-gate-state" / "signing-key.pem")
    store = open_store(url, key=key, migrated=False)
    found = replay(store, Rules(candidate, candidate.policy), served)
    assert (found.decisions, found.reasons) == (pairs, Counter())
    moved = KindModel(KINDS.kinds, KINDS.words, 2 * WEIGHTS, np.zeros(2))
    for served_by in (replace(served, kinds=None), replace(served, kinds=moved)):
        unknown = replay(store, Rules(candidate, candidate.policy), served_by)
        assert unknown.reasons == {"another_bundle": len(QUESTIONS)}
