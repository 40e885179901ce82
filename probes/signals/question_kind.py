"""The question's kind, told from its words alone, by the same call offline and in service.

A dataset names the kind of each question; a request does not. A linear model on the words that the
question holds tells it, so that the risk may weigh its signals by kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.linear_model import LogisticRegression

from probes.types import FloatArray, Missing, QuestionKind

MOST_WORDS = 2000
"""Of the vocabulary: the commonest."""
LEAST_ASKED = 2
"""Times that a question with the word must have been asked."""

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
        """Whether another model tells the same of every question."""
        arrays = ((self.weights, other.weights), (self.intercept, other.intercept))
        return (self.kinds, self.words) == (other.kinds, other.words) and all(
            np.array_equal(left, right) for left, right in arrays
        )

    def tell(self, question: str) -> QuestionKind | Missing:
        """The likeliest kind; ``Missing("unknown_words")`` where it knows no word of it."""
        places = sorted({self._place[w] for w in words_of(question) if w in self._place})
        if not places:
            return Missing("unknown_words")
        scores = self.weights[places].sum(axis=0) + self.intercept
        return QuestionKind(self.kinds[int(scores.argmax())])


def measure_question_kind(question: str, model: KindModel | None) -> QuestionKind | Missing:
    """What a bundle's model tells of a question; ``not_requested`` where the bundle has none."""
    return Missing("not_requested") if model is None else model.tell(question)


def words_of(question: str) -> frozenset[str]:
    """The words that it holds, in lower case, without punctuation."""
    return frozenset(_WORD.findall(question.lower()))


def fit_kinds(questions: Sequence[str], kinds: Sequence[str]) -> KindModel | Missing:
    """Fit on a dataset's questions and their kinds, (n,) each.

    ``Missing("one_kind")`` where there is nothing to tell apart, ``Missing("no_words")`` where no
    word was asked :data:`LEAST_ASKED` times.
    """
    names = tuple(sorted(set(kinds)))
    if len(names) < 2:
        return Missing("one_kind")
    pairs = Counter(zip(questions, kinds, strict=True))
    held = {question: words_of(question) for question in dict.fromkeys(questions)}
    found: Counter[str] = Counter()
    for (question, _), asked in pairs.items():
        found.update(dict.fromkeys(held[question], asked))
    common = [word for word, count in found.most_common(MOST_WORDS) if count >= LEAST_ASKED]
    if not common:
        return Missing("no_words")
    vocabulary = tuple(sorted(common))
    table = np.array([[word in held[question] for word in vocabulary] for question, _ in pairs])
    weights, intercept = _fit_logistic(table, [kind for _, kind in pairs], list(pairs.values()))
    return KindModel(names, vocabulary, weights, intercept)


def _fit_logistic(
    table: FloatArray, kinds: Sequence[str], counts: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """Weights (words, kinds) and intercepts (kinds,), each question counted as often as asked."""
    model = LogisticRegression(max_iter=1000).fit(table, kinds, sample_weight=counts)
    weights, intercept = model.coef_, model.intercept_
    if len(weights) == 1:  # of two kinds it holds the second's alone
        weights, intercept = np.vstack([-weights, weights]), np.array([-intercept[0], intercept[0]])
    return np.ascontiguousarray(weights.T, dtype=np.float64), np.asarray(intercept, dtype=float)
