"""Ways of asking, told apart by the words alone: no model is asked."""

from pathlib import Path

import pytest

from probes.model.folder import read_bundle
from probes.signals.question import QuestionModel
from service.settings import embedded
from tests.embedded.question_lists import FOREIGN, FRESH_FOREIGN, FRESH_PARAPHRASES, read

FAMILIES = ("llava", "paligemma", "qwen2vl")
AT_THE_LIMIT = ("Is the seal above the connector?", "Do you see the seal above the hole?")
"""The 98 % quantile of the selection split's questions lies halfway between these."""


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> QuestionModel:
    found = read_bundle(Path(embedded("bundles", request.param))).questions
    assert isinstance(found, QuestionModel)
    return found


@pytest.mark.parametrize("name", ["made_to_pass", "blind_foreign", "second_blind_foreign"])
def test_questions_made_to_pass_are_outside(model: QuestionModel, name: str) -> None:
    asked = read(name)
    inside = [question for question in asked if model.inside(question)]
    assert len(asked) >= 60
    assert len(inside) <= 0.02 * len(asked), inside


@pytest.mark.parametrize("name", ["other_words", "blind_other_words", "second_blind_other_words"])
def test_the_same_in_other_words_is_inside(model: QuestionModel, name: str) -> None:
    asked = read(name)
    outside = [question for question in asked if not model.inside(question)]
    assert len(asked) >= 60
    assert len(outside) <= 0.05 * len(asked), outside


@pytest.mark.parametrize("noise", ["\u200b", "\ufeff", "\x1f", "\N{GRINNING FACE}", "\n" * 500])
def test_what_nobody_types_is_outside(model: QuestionModel, noise: str) -> None:
    assert model.inside("Is there a dent?")
    assert not model.inside(f"Is there a dent?{noise}")


def test_lists_share_no_question() -> None:
    names = ("made_to_pass", "blind_foreign", "second_blind_foreign", "other_words",
             "blind_other_words", "second_blind_other_words")  # fmt: skip
    asked = [question for name in names for question in read(name)]
    known = {*FOREIGN, *FRESH_FOREIGN, *FRESH_PARAPHRASES}
    assert len(asked) == len(set(asked))
    assert not set(asked) & known, sorted(set(asked) & known)


def test_the_limit_is_that_of_the_words_that_only_ask(model: QuestionModel) -> None:
    """Other words would put it elsewhere; then the bundles want training anew."""
    around = [model.surprise(question) for question in AT_THE_LIMIT]
    assert model.limit == pytest.approx(sum(around) / 2, abs=1e-9)
