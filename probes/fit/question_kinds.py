"""Fits the model that tells a question's kind from its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from probes.signals.question_kind import KindModel, words_of
from probes.types import FloatArray, Missing

MOST_WORDS = 2000
"""Of the vocabulary: the commonest."""


LEAST_ASKED = 2
"""Times that a question with the word must have been asked."""


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
