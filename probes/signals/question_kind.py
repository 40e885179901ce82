"""The question's kind, told from its words alone, by the same call offline and in service.

A dataset names the kind of each question; a request does not. A linear model on the words that the
question holds tells it, so that the risk may weigh its signals by kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from probes.types import FloatArray, Missing, QuestionKind

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class KindModel:
    """Multinomial logistic regression on the presence of words.

    Args:
        kinds: in alphabetical order.
        words: the vocabulary, in alphabetical order.
        weights: log-odds per word and kind, shape (words, kinds).
        intercept: shape (kinds,).
    """

    kinds: tuple[str, ...]
    words: tuple[str, ...]
    weights: FloatArray
    intercept: FloatArray

    @cached_property
    def _place(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def same(self, other: KindModel) -> bool:
        """Return whether another model predicts the same kind of every question."""
        arrays = ((self.weights, other.weights), (self.intercept, other.intercept))
        return (self.kinds, self.words) == (other.kinds, other.words) and all(
            np.array_equal(left, right) for left, right in arrays
        )

    def tell(self, question: str) -> QuestionKind | Missing:
        """Return the likeliest kind, or ``Missing("unknown_words")`` where it knows no word."""
        places = sorted({self._place[w] for w in words_of(question) if w in self._place})
        if not places:
            return Missing("unknown_words")
        scores = self.weights[places].sum(axis=0) + self.intercept
        return QuestionKind(self.kinds[int(scores.argmax())])


def measure_question_kind(question: str, model: KindModel | None) -> QuestionKind | Missing:
    """Predict a question's kind; ``not_requested`` where the bundle has no model of kinds."""
    return Missing("not_requested") if model is None else model.tell(question)


def words_of(question: str) -> frozenset[str]:
    """Return the words of a question, in lower case, without punctuation."""
    return frozenset(_WORD.findall(question.lower()))
