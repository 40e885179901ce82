"""Learns the questions of training, and how surprising a new one may be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from probes.errors import TrainingError
from probes.signals.question import QuestionModel, collapse
from probes.types import QuestionMode

FEW_QUESTIONS = 50
"""A dataset with at most so many distinct questions is a fixed line's: its templates bound it."""


def fit_questions(
    fit: Sequence[str], select: Sequence[str], quantile: float, distinct: int
) -> QuestionModel:
    """Learn the questions of the fit split, and the limit on those of the selection split.

    Args:
        fit: every question of the fit split, as often as it was asked.
        select: likewise of the selection split; other images, so asked anew.
        quantile: share of new questions that is to be inside, such as 0.98.
        distinct: how many different questions the whole dataset has.

    Raises TrainingError without questions in either split.
    """
    if not fit or not select:
        raise TrainingError("questions: the fit or the selection split has none; collect more")
    counted = Counter(map(collapse, fit))
    texts = tuple(sorted(counted))
    model = QuestionModel(texts, tuple(counted[text] for text in texts), math.inf, "any")
    bits = {question: model.surprise(question) for question in set(select)}
    limit = np.quantile([bits[question] for question in select], quantile)
    mode: QuestionMode = "template" if distinct <= FEW_QUESTIONS else "any"
    return QuestionModel(model.questions, model.counts, float(limit), mode)
