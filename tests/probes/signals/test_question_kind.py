from __future__ import annotations

import numpy as np
import pytest

from probes.fit.question_kinds import fit_kinds
from probes.signals.question_kind import KindModel, measure_question_kind, words_of
from probes.types import Missing, QuestionKind

COLOURS, THINGS = ("red", "blue", "green", "white"), ("bolt", "nut", "seal", "washer", "label")
TEMPLATES = {
    "presence": "Is there a {colour} {thing}?",
    "count": "How many {colour} {thing}s are there?",
    "defect": "Is a {thing} broken, or the {colour} one?",
}


def asked(things: tuple[str, ...], kinds: tuple[str, ...] = tuple(TEMPLATES)) -> list[list[str]]:
    pairs = [
        (TEMPLATES[kind].format(colour=colour, thing=thing), kind)
        for kind in kinds
        for colour in COLOURS
        for thing in things
    ]
    return [list(column) for column in zip(*pairs, strict=True)]


def fitted(*arguments: list[str]) -> KindModel:
    model = fit_kinds(*arguments)
    assert isinstance(model, KindModel)
    return model


@pytest.mark.parametrize("kinds", [tuple(TEMPLATES), ("count", "defect")])
def test_it_tells_the_kind_of_questions_that_it_never_saw(kinds: tuple[str, ...]) -> None:
    model = fitted(*asked(THINGS[:3], kinds))
    assert model.kinds == tuple(sorted(kinds))
    assert model.weights.shape == (len(model.words), len(kinds))
    questions, truth = asked(THINGS[3:], kinds)
    assert [measure_question_kind(one, model) for one in questions] == [
        QuestionKind(kind) for kind in truth
    ]


def test_case_and_punctuation_do_not_matter() -> None:
    assert words_of("Is it RED -- or not?!") == {"is", "it", "red", "or", "not"}
    model = fitted(*asked(THINGS))
    assert model.tell("HOW MANY red nuts are there") == QuestionKind("count")


def test_a_question_without_a_known_word_has_no_kind() -> None:
    model = fitted(*asked(THINGS))
    for question in ("", "?!", "Capital of France"):
        assert model.tell(question) == Missing("unknown_words")


def test_a_word_asked_once_is_not_known() -> None:
    questions, kinds = asked(THINGS)
    model = fitted([*questions, "Is serial 4711 there?"], [*kinds, "presence"])
    assert "4711" not in model.words
    assert "there" in model.words


def test_a_line_that_always_asks_the_same_questions_is_told_apart() -> None:
    questions = ["Is the seal whole?", "Which screw?", "Label?"]
    kinds = ["defect", "open", "count"]
    model = fitted(questions * 40, kinds * 40)
    assert [model.tell(one) for one in questions] == [QuestionKind(kind) for kind in kinds]


def test_a_question_asked_under_two_kinds_is_of_the_commoner_one() -> None:
    questions, kinds = asked(THINGS)
    odd = "Is a seal broken, or the red one?"
    assert fitted([*questions, odd], [*kinds, "count"]).tell(odd) == QuestionKind("defect")
    assert fitted([*questions, *[odd] * 90], [*kinds, *["count"] * 90]).tell(odd) == QuestionKind(
        "count"
    )


def test_there_is_no_model_where_there_is_nothing_to_tell() -> None:
    questions, kinds = asked(THINGS, ("count",))
    assert fit_kinds(questions, kinds) == Missing("one_kind")
    assert fit_kinds(["alpha", "beta"], ["a", "b"]) == Missing("no_words")
    assert measure_question_kind("How many?", None) == Missing("not_requested")


def test_another_model_is_another_one() -> None:
    model, other = fitted(*asked(THINGS)), fitted(*asked(THINGS[:3]))
    assert model.same(fitted(*asked(THINGS)))
    assert not model.same(other)
    moved = KindModel(model.kinds, model.words, model.weights + 1e-9, model.intercept)
    assert not model.same(moved)
    assert np.isfinite(model.weights).all()
