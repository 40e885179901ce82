"""Foreign questions, paraphrases and the line's own, asked of the bundles that ship.

What the question side puts outside is never accepted, whatever the model answers: so a model is
asked only what is left, and the paraphrases with their originals.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from probes.labels import judge
from probes.model.bundle import Bundle
from probes.model.folder import read_bundle
from probes.signals.measure import measure
from probes.signals.question import QuestionModel
from probes.types import Domain, Generation, Missing, Query
from service.engines.base import Engine
from service.engines.build import build_engine
from service.settings import embedded
from testbed.drawing import render
from testbed.questions import Question, ask
from testbed.scenes import make_scene
from tests.embedded.question_lists import (
    FOREIGN,
    FRESH_FOREIGN,
    FRESH_PARAPHRASES,
    paraphrases,
    read,
)

MADE_TO_PASS = tuple(
    question
    for name in ("made_to_pass", "blind_foreign", "second_blind_foreign")
    for question in read(name)
)
LISTS = (FOREIGN, FRESH_FOREIGN, MADE_TO_PASS)
FAMILIES = ("llava", "paligemma", "qwen2vl")
# Scenes of no other range: neither trained on, nor collected, nor shown in the demo.
FIRST_SEED = 410_000
IMAGES = 2
"""Per foreign question."""
IN_FLIGHT = 128


@dataclass(frozen=True, eq=False)
class Pair:
    """A question of the line and the same in other words, about one image."""

    original: Question
    image: int
    words: str


def pairs() -> list[Pair]:
    """Every paraphrase of the lists about three scenes, so that no rare colour of one decides."""
    found: dict[tuple[str, int, int], list[Pair]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + 180):
        scene = make_scene(seed, "line")
        for question in ask(scene, np.random.default_rng(seed), n=6):
            forms = paraphrases(question.text, scene.body)
            keys = [(question.kind, len(forms), at) for at in range(len(forms))]
            new = [key for key in keys if len(found.get(key, ())) < 3]
            for key in new[:3]:  # so that not all wordings hang on one image
                found.setdefault(key, []).append(Pair(question, seed, forms[key[-1]]))
    return [pair for some in found.values() for pair in some]


def line_questions() -> list[str]:
    """Of scenes that nothing was trained on."""
    seeds = range(FIRST_SEED + 100, FIRST_SEED + 300)
    return [
        question.text
        for seed in seeds
        for question in ask(make_scene(seed, "line"), np.random.default_rng(seed), n=3)
    ]


@dataclass(frozen=True)
class Told:
    """What came of the trial with one family.

    Args:
        accepted: the foreign questions that were accepted, once per image.
        understood, inside: paraphrases that the model answered right where it answered the original
            right and inside, and those of them that were inside.
        outside: share of the line's own questions that the question side put outside.
        fresh: share of the fresh paraphrases that it left inside, whatever the model makes of them.
    """

    accepted: list[str]
    understood: int
    inside: int
    outside: float
    fresh: float


@pytest.fixture(scope="module", params=FAMILIES)
def told(request: pytest.FixtureRequest) -> Told:
    bundle = read_bundle(Path(embedded("bundles", request.param)))
    engine = build_engine(
        "transformers", embedded("models", request.param), device="cpu", dtype=bundle.model.dtype
    )
    return asyncio.run(_trial(bundle, engine))


async def _trial(bundle: Bundle, engine: Engine) -> Told:
    await engine.start()
    try:
        accepted = await _accepted(bundle, engine)
        understood = [pair for pair in await _judged(bundle, engine) if pair is not None]
    finally:
        await engine.close()
    own = line_questions()
    return Told(
        accepted=accepted,
        understood=len(understood),
        inside=sum(understood),
        outside=float(np.mean([not _inside(bundle, question) for question in own])),
        fresh=float(np.mean([_inside(bundle, question) for question in FRESH_PARAPHRASES])),
    )


def _inside(bundle: Bundle, question: str) -> bool:
    model = bundle.questions
    return not isinstance(model, QuestionModel) or model.inside(question)


async def _accepted(bundle: Bundle, engine: Engine) -> list[str]:
    certificate = bundle.certificates["never"]
    left = [question for some in LISTS for question in some if _inside(bundle, question)]
    queries = [
        Query(render(make_scene(FIRST_SEED + 7 * at + step, "line")), question, 16)
        for at, question in enumerate(left)
        for step in range(IMAGES)
    ]
    answers = await _ask(bundle, engine, queries)
    decisions = [
        bundle.policy.decide(bundle.assess(measure(query, answer, bundle)), certificate).decision
        for query, answer in zip(queries, answers, strict=True)
    ]
    return [
        query.question
        for query, decision in zip(queries, decisions, strict=True)
        if decision == "accept"
    ]


async def _judged(bundle: Bundle, engine: Engine) -> list[bool | None]:
    """Per pair whether the paraphrase is inside; None where there is nothing to compare."""
    made = pairs()
    images = {seed: render(make_scene(seed, "line")) for seed in {pair.image for pair in made}}
    asked = [(pair.image, text) for pair in made for text in (pair.original.text, pair.words)]
    queries = {one: Query(images[one[0]], one[1], 16) for one in dict.fromkeys(asked)}
    answers = await _ask(bundle, engine, list(queries.values()))
    generations = dict(zip(queries, answers, strict=True))

    def right_and_inside(pair: Pair, text: str) -> tuple[bool, bool]:
        generation, query = generations[pair.image, text], queries[pair.image, text]
        rule = "yes_no" if pair.original.answer in ("yes", "no") else "match"
        domain = measure(query, generation, bundle).domain
        inside = isinstance(domain, Domain) and domain.inside
        return not judge(generation.answer, pair.original.answers, rule).wrong, inside

    judged: list[bool | None] = []
    for pair in made:
        first, again = (
            right_and_inside(pair, pair.original.text),
            right_and_inside(pair, pair.words),
        )
        judged.append(again[1] if all(first) and again[0] else None)
    return judged


async def _ask(bundle: Bundle, engine: Engine, queries: list[Query]) -> list[Generation]:
    """A part at a time: the engine's queue is bounded."""
    answers: list[Generation] = []
    for start in range(0, len(queries), IN_FLIGHT):
        part = queries[start : start + IN_FLIGHT]
        answers += await asyncio.gather(*(engine.generate(one, bundle.readout) for one in part))
    return answers


def test_the_bundle_has_a_question_side(told: Told, request: pytest.FixtureRequest) -> None:
    family = request.node.callspec.params["told"]
    assert not isinstance(read_bundle(Path(embedded("bundles", family))).questions, Missing)


def test_at_most_two_in_a_hundred_foreign_questions_are_accepted(told: Told) -> None:
    for some in LISTS:
        accepted = [question for question in told.accepted if question in some]
        assert len(some) >= 60
        assert len(accepted) <= 0.02 * IMAGES * len(some), accepted


def test_paraphrases_that_the_model_understands_are_inside(told: Told) -> None:
    assert told.understood >= 30
    assert told.inside >= 0.95 * told.understood
    assert told.fresh >= 0.95


def test_the_lines_own_questions_are_inside(told: Told) -> None:
    assert told.outside <= 0.05
