"""A store seen through a probe and a domain model: every signal of every answer, as columns.

The vectorised twin of :func:`probes.signals.measure.measure`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Store
from probes.model.probe import LinearProbe
from probes.model.risk import FEATURES, KIND, RiskModel
from probes.signals.consistency import measure_consistency
from probes.signals.degenerate import measure_form
from probes.signals.domain import DomainModel
from probes.signals.question import QuestionModel
from probes.signals.question_kind import KindModel
from probes.types import FloatArray, Missing, Position

BLOCK = 1024
"""Answers projected at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Signals of n answers. A column is only ever read where :attr:`known` says so.

    Args:
        columns: feature name (see :class:`~probes.model.risk.RiskModel`) to values, (n,).
        known: feature name to whether each value is there, (n,).
    """

    columns: Mapping[str, FloatArray]
    known: Mapping[str, NDArray[np.bool_]]

    def complete(self, features: tuple[str, ...]) -> NDArray[np.bool_]:
        """Answers that have all these features, (n,)."""
        rows = [self.known[name] for name in features]
        return np.asarray(np.logical_and.reduce(rows), dtype=bool)

    def take(self, features: tuple[str, ...], rows: NDArray[np.bool_]) -> dict[str, FloatArray]:
        """Columns of these features at these rows, which must be complete."""
        return {name: self.columns[name][rows] for name in features}


def states(store: Store, place: tuple[int, Position]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Hidden states of one (layer, position), (n, hidden), and whether each was read, (n,)."""
    hidden = store.hidden(place)
    return hidden, store.arrays.present[:, store.setup.readouts.index(place)]


def measure_columns(store: Store, probe: LinearProbe, kinds: KindModel | None = None) -> Measured:
    """Token confidence, probe and self-consistency of every answer, and the same per kind."""
    hidden, present = states(store, (probe.layer, probe.position))
    columns: dict[str, FloatArray] = {"probe_logit": probe.logit(_project(probe, hidden))}
    known = {"probe_logit": present}
    confidence = [record.confidence for record in store.records]
    have = np.array([not isinstance(one, Missing) for one in confidence], dtype=bool)
    for name in ("mean_logprob", "first_token_entropy", "margin"):
        values = [0.0 if isinstance(one, Missing) else getattr(one, name) for one in confidence]
        columns[name], known[name] = np.array(values, dtype=np.float64), have
    planned = store.setup.generation.samples
    agreement = [
        measure_consistency(record.answer, record.samples, planned) for record in store.records
    ]
    columns["agreement"] = np.array(
        [0.0 if isinstance(one, Missing) else one.agreement for one in agreement]
    )
    known["agreement"] = np.array([not isinstance(one, Missing) for one in agreement], dtype=bool)
    measured = Measured(columns, known)
    return measured if kinds is None else _with_kinds(measured, store, kinds)


def _with_kinds(measured: Measured, store: Store, model: KindModel) -> Measured:
    """The columns, and per kind of question what counts for that kind alone."""
    told = {one: model.tell(one) for one in {record.question for record in store.records}}
    found = [told[record.question] for record in store.records]
    have = np.array([not isinstance(one, Missing) for one in found], dtype=bool)
    names = np.array([None if isinstance(one, Missing) else one.kind for one in found], object)
    columns, known = dict(measured.columns), dict(measured.known)
    for kind in model.kinds:
        of_kind = np.asarray(names == kind, dtype=np.float64)
        columns[f"{KIND}@{kind}"], known[f"{KIND}@{kind}"] = of_kind, have
        for name in FEATURES:
            columns[f"{name}@{kind}"] = measured.columns[name] * of_kind
            known[f"{name}@{kind}"] = measured.known[name] & have
    return Measured(columns, known)


def measure_distance(
    store: Store, probe: LinearProbe, domain: DomainModel
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Distance from the domain of validity, (n,), and whether there is one, (n,)."""
    latent, present = latent_states(store, probe)
    points = np.concatenate([latent[:, : domain.latent], store.arrays.image_features], axis=1)
    return domain.distance(points), present


def measure_inside(
    store: Store, probe: LinearProbe, domain: DomainModel, questions: QuestionModel | Missing
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each request lies within the domain's image side and its question side, (n,) each.

    Without a question side every question is inside.
    """
    distance, present = measure_distance(store, probe, domain)
    image = present & (distance <= domain.limit)
    if isinstance(questions, Missing):
        return image, np.ones(len(store.records), dtype=bool)
    asked = [record.question for record in store.records]
    known = {question: questions.inside(question) for question in set(asked)}
    return image, np.array([known[question] for question in asked], dtype=bool)


def measure_proper(store: Store) -> NDArray[np.bool_]:
    """Whether each answer is one that a person could mean, not degenerate, (n,)."""
    answers = [record.answer for record in store.records]
    proper = {answer: measure_form(answer).degenerate is None for answer in set(answers)}
    return np.array([proper[answer] for answer in answers], dtype=bool)


def latent_states(store: Store, probe: LinearProbe) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Principal coordinates of the probe's hidden state, (n, components), and whether read."""
    hidden, present = states(store, (probe.layer, probe.position))
    return probe.latent(_project(probe, hidden)), present


def _project(probe: LinearProbe, hidden: FloatArray) -> FloatArray:
    """A block of answers at a time, for in float64 all of them would not fit well."""
    blocks = [hidden[start : start + BLOCK] for start in range(0, len(hidden), BLOCK)]
    return np.concatenate([probe.project(block) for block in blocks])


def measure_risk(measured: Measured, model: RiskModel) -> FloatArray:
    """Calibrated risk of every answer, (n,); infinite where a signal it needs is missing."""
    risk = np.full(len(measured.columns["probe_logit"]), np.inf)
    rows = measured.complete(model.features)
    if rows.any():
        risk[rows] = model.score(measured.take(model.features, rows))
    return risk
