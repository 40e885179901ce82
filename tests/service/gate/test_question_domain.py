"""Questions that the bundle was not trained on, and answers that nobody could mean, in service."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from probes.signals.question import QuestionModel

pytestmark = pytest.mark.anyio
OWN, OTHER = "Is there a scratch?", "Is there a triangle?"


def asking(bundle: Any, mode: str = "any") -> Any:
    """A bundle that was trained on two questions."""
    questions = QuestionModel((OWN, "Is there a dent?"), (3, 3), 4.0, mode)  # type: ignore[arg-type]
    return replace(bundle, questions=questions)


def body(png: bytes, question: str, **more: object) -> dict[str, object]:
    return {"question": question, "image": base64.b64encode(png).decode(), **more}


@pytest.mark.parametrize("mode", ["exact", "template", "any"])
async def test_a_foreign_question_escalates_and_is_counted(serve, bundled, png, mode) -> None:
    async with serve(asking(bundled(threshold=1.0), mode)) as client:
        own = (await client.post("/v1/answer", json=body(png, OWN))).json()
        other = (await client.post("/v1/answer", json=body(png, OTHER))).json()
        counted = (await client.get("/metrics")).text
        policy = (await client.get("/v1/policy")).json()
    assert (own["decision"], own["signals"]["domain"]["part"]) == ("accept", None)
    assert (other["decision"], other["reason"]) == ("escalate", "out_of_domain")
    domain = other["signals"]["domain"]
    assert (domain["part"], domain["inside"]) == ("question", False)
    assert domain["images"] == [{"distance": domain["distance"], "inside": True}]
    assert domain["question"]["surprise"] > own["signals"]["domain"]["question"]["surprise"]
    assert (domain["question"]["inside"], domain["question"]["mode"]) == (False, mode)
    assert 'vlm_gate_out_of_domain_total{part="question"} 1.0' in counted
    assert 'vlm_gate_out_of_domain_total{part="image"} 0.0' in counted
    assert policy["questions"] == mode


async def test_a_bundle_without_a_question_side_says_so(serve, png) -> None:
    async with serve() as client:
        told = (await client.post("/v1/answer", json=body(png, OTHER))).json()
        policy = (await client.get("/v1/policy")).json()
    assert told["signals"]["domain"]["question"] == {"missing": "no_question_side"}
    assert policy["questions"] == {"missing": "no_question_side"}


async def test_both_sides_are_told(serve, bundled, png) -> None:
    async with serve(asking(bundled(limit=0.0))) as client:
        told = (await client.post("/v1/answer", json=body(png, OTHER))).json()
    assert told["signals"]["domain"]["part"] == "both"


@pytest.mark.parametrize("mode", ["never", "auto", "always"])
async def test_a_degenerate_answer_is_not_accepted(serve, bundled, engine, png, mode) -> None:
    async with serve(bundled(threshold=1.0)) as client:
        engine._answer_for = lambda query: "no no no 1 no"
        sent = body(png, OWN, self_consistency=mode)
        told = (await client.post("/v1/answer", json=sent)).json()
    assert (told["decision"], told["reason"]) == ("escalate", "degenerate_answer")
    assert told["signals"]["answer_form"] == {"degenerate": "repeats"}
