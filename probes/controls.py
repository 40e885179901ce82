"""Control probes: what can be predicted without what the probe is said to read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from probes.bundle import Bundle
from probes.measured import states
from probes.probe import fit_linear_probe
from probes.store import Store
from probes.types import FloatArray

CONTROLS: Mapping[str, str] = {
    "shuffled_labels": "the probe, fitted on shuffled labels",
    "question_words": "words of the question only",
    "answer_words": "words of the answer only",
}


def control_scores(
    store: Store,
    bundle: Bundle,
    regularisation: float,
    fit: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    seed: int,
) -> dict[str, FloatArray]:
    """Score per control, higher is riskier, at the given rows; fitted on the fit split alone.

    Args:
        regularisation: C of the real probe, for the shuffled one.
        fit: (n,). rows: (n,), m of them true.

    Returns control name -> (m,).
    """
    wrong = store.wrong
    place = (bundle.probe.layer, bundle.probe.position)
    hidden, present = states(store, place)
    seen = fit & present
    shuffled = np.random.default_rng(seed).permutation(wrong[seen])
    probe = fit_linear_probe(
        hidden[seen], shuffled, layer=place[0], position=place[1], regularisation=regularisation
    )
    questions = [record.question for record in store.records]
    answers = [record.answer for record in store.records]
    return {
        "shuffled_labels": probe.logit(probe.project(hidden[rows])),
        "question_words": _words(questions, wrong, fit, rows),
        "answer_words": _words(answers, wrong, fit, rows),
    }


def _words(
    texts: list[str], wrong: NDArray[np.bool_], fit: NDArray[np.bool_], rows: NDArray[np.bool_]
) -> FloatArray:
    counter = CountVectorizer(binary=True, token_pattern=r"\S+")
    train = counter.fit_transform([f"text {texts[row]}" for row in np.flatnonzero(fit)])
    model = LogisticRegression(max_iter=1000).fit(train, wrong[fit])
    table = counter.transform([f"text {texts[row]}" for row in np.flatnonzero(rows)])
    return np.asarray(model.decision_function(table), dtype=np.float64)
