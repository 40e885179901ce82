"""The question model of the bundles that ship, fitted again as ``train`` does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from probes.data.splits import split_by_image
from probes.fit.questions import fit_questions
from probes.fit.train import QUESTION_QUANTILE
from probes.model.folder import read_bundle
from probes.signals.question import QuestionModel
from probes.signals.sampling import image_hash
from service.settings import embedded
from testbed.dataset import asked_of
from testbed.drawing import render
from testbed.scenes import make_scene

FAMILIES = ("llava", "paligemma", "qwen2vl")
SCENES, QUESTIONS = 4200, 3
"""Of the line, as ``make results`` has it."""
MOVED = 4
"""Scenes that may be in another split: their pictures differ by a pixel from machine to machine."""


@pytest.fixture(scope="module")
def asked() -> list[tuple[str, str]]:
    """Hash of the picture and text of every question of the line."""
    scenes = [make_scene(seed, "line") for seed in range(SCENES)]
    hashes = [image_hash(render(scene)) for scene in scenes]
    return [
        (found, question.text)
        for found, scene in zip(hashes, scenes, strict=True)
        for question in asked_of(scene, QUESTIONS)
    ]


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bundle_holds_what_training_would_fit(
    family: str, asked: list[tuple[str, str]]
) -> None:
    bundle = read_bundle(Path(embedded("bundles", family)))
    shipped = cast(QuestionModel, bundle.questions)
    split = bundle.training["split"]
    splits = split_by_image([group for group, _ in asked], split["shares"], split["seed"])
    fit, select = (
        [text for (_, text), one in zip(asked, splits, strict=True) if one == name]
        for name in ("fit", "select")
    )
    again = fit_questions(fit, select, QUESTION_QUANTILE, len({text for _, text in asked}))
    counts = Counter(dict(zip(again.questions, again.counts, strict=True)))
    counts.subtract(dict(zip(shipped.questions, shipped.counts, strict=True)))
    assert sum(map(abs, counts.values())) <= MOVED * QUESTIONS
    assert again.limit == pytest.approx(shipped.limit, abs=0.01)
    assert again.mode == shipped.mode
