"""Control probes: what can be predicted without what the probe is said to read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from probes.data.blank_run import blank_rows
from probes.data.columns import StoreView
from probes.data.store import Place, Store
from probes.fit.linear import cross_validate, fit_linear_probe
from probes.signals.question_kind import words_of
from probes.types import FloatArray, Missing

CONTROLS: Mapping[str, str] = {
    "shuffled_labels": "the probe, fitted on shuffled labels",
    "question_words": "words of the question only",
    "answer_words": "words of the answer only",
    "question_and_answer_words": "words of question and answer, and their pairs",
    "question_kind": "kind of the question only, as the dataset names it",
    "blank_image": "the probe, fitted on states that saw a blank image",
}


def control_scores(
    view: StoreView,
    regularisation: float,
    fit: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    seed: int,
    blank: Store | None = None,
) -> dict[str, FloatArray | Missing]:
    """Score the given rows by each control, higher is riskier, fitted on the fit split alone.

    Args:
        regularisation: C of the real probe, for the shuffled one.
        fit: (n,). rows: (n,), m of them true.
        blank: run of the same questions with blank images.

    Returns control name -> (m,), or why it cannot be had.
    """
    store, place = view.store, view.place
    wrong = store.wrong
    hidden, present = view.states(place)
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
        "question_and_answer_words": _words(_pairs(questions, answers), wrong, fit, rows),
        "question_kind": _kind(store, fit, rows),
        "blank_image": Missing("no_blank_run")
        if blank is None
        else _blank(store, blank, place, fit, rows),
    }


def _blank(
    store: Store,
    blank: Store,
    place: Place,
    fit: NDArray[np.bool_],
    rows: NDArray[np.bool_],
) -> FloatArray | Missing:
    """Score the real run's answers by a probe on states that saw the question but no image."""
    where, paired = blank_rows(store, blank, place)
    if not paired[rows].all():
        return Missing("incomplete_blank_run")
    hidden = blank.hidden(place)
    seen = fit & paired
    layer, position = place
    probe, _ = cross_validate(
        hidden[where[seen]], store.wrong[seen], store.groups[seen], layer=layer, position=position
    )
    return probe.logit(probe.project(hidden[where[rows]]))


def _pairs(questions: list[str], answers: list[str]) -> list[str]:
    """Return texts of marked words of question and answer, and of every pair of the two."""
    texts = []
    for question, answer in zip(questions, answers, strict=True):
        asked, said = sorted(words_of(question)), sorted(words_of(answer))
        pairs = [f"{one}+{other}" for one in asked for other in said]
        texts.append(
            " ".join([*(f"q:{one}" for one in asked), *(f"a:{one}" for one in said), *pairs])
        )
    return texts


def _kind(store: Store, fit: NDArray[np.bool_], rows: NDArray[np.bool_]) -> FloatArray | Missing:
    """Error rate of the question's kind on the fit split."""
    kinds = np.array([record.kind for record in store.records], dtype=np.str_)
    if np.unique(kinds[fit]).size < 2:
        return Missing("one_kind")
    rates = {kind: store.wrong[fit & (kinds == kind)].mean() for kind in np.unique(kinds[fit])}
    overall = store.wrong[fit].mean()
    return np.array([rates.get(kind, overall) for kind in kinds[rows]], dtype=np.float64)


def _words(
    texts: list[str], wrong: NDArray[np.bool_], fit: NDArray[np.bool_], rows: NDArray[np.bool_]
) -> FloatArray:
    counter = CountVectorizer(binary=True, token_pattern=r"\S+")
    train = counter.fit_transform([f"text {texts[row]}" for row in np.flatnonzero(fit)])
    model = LogisticRegression(max_iter=1000).fit(train, wrong[fit])
    table = counter.transform([f"text {texts[row]}" for row in np.flatnonzero(rows)])
    return np.asarray(model.decision_function(table), dtype=np.float64)
