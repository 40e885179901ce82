"""Every signal of every answer of a store, as columns computed with a bundle.

The vectorised twin of :func:`probes.signals.measure.measure`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Place, Store
from probes.model.bundle import Bundle
from probes.model.probe import LinearProbe
from probes.model.risk import KIND, RiskModel
from probes.signals.catalogue import FEATURES, TOKEN_FEATURES
from probes.signals.consistency import measure_consistency
from probes.signals.degenerate import measure_form
from probes.signals.question_kind import KindModel
from probes.types import FloatArray, Missing

BLOCK = 1024
"""Answers projected at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Signals of n answers. Read a value only where :attr:`known` says that it is there.

    Args:
        values: feature name (see :class:`~probes.model.risk.RiskModel`) to values, (n,).
        known: feature name to whether each value is there, (n,).
    """

    values: Mapping[str, FloatArray]
    known: Mapping[str, NDArray[np.bool_]]

    def complete(self, features: tuple[str, ...]) -> NDArray[np.bool_]:
        """Answers that have all these features, (n,)."""
        rows = [self.known[name] for name in features]
        return np.asarray(np.logical_and.reduce(rows), dtype=bool)

    def take(self, features: tuple[str, ...], rows: NDArray[np.bool_]) -> dict[str, FloatArray]:
        """Values of these features at these rows, which must be complete."""
        return {name: self.values[name][rows] for name in features}


class StoreView:
    """A store seen through a bundle: columns are computed once, when they are first asked for.

    It keeps the hidden states that it read last, and no others. A caller that finishes with one
    layer and position before it turns to the next reads each of them from disk once.
    """

    def __init__(self, store: Store, bundle: Bundle) -> None:
        self.store, self.bundle = store, bundle
        self._read: tuple[Place, NDArray[np.float16]] | None = None

    @property
    def place(self) -> Place:
        """The layer and position that the bundle's probe reads."""
        return self.bundle.probe.layer, self.bundle.probe.position

    def states(self, place: Place) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Hidden states of one layer and position, (n, hidden), and whether each was read, (n,).

        Raises StoreError as :meth:`~probes.data.store.Store.hidden`.
        """
        if self._read is None or self._read[0] != place:
            self._read = None  # two matrices may not fit into memory
            self._read = place, self.store.hidden(place)
        return self._read[1], self.store.present(place)

    @cached_property
    def columns(self) -> Columns:
        """Token confidence, probe and self-consistency of every answer, and the same per kind."""
        logits = self.bundle.probe.logit(self._projected)
        return _columns(self.store, logits, self.store.present(self.place), self.bundle.kinds)

    @cached_property
    def distance(self) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Distance from the domain of validity, (n,), and whether there is one, (n,)."""
        domain, latent = self.bundle.domain, self.bundle.probe.latent(self._projected)
        points = np.concatenate(
            [latent[:, : domain.latent], self.store.arrays.image_features], axis=1
        )
        return domain.distance(points), self.store.present(self.place)

    @cached_property
    def inside(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each request lies within the image side and the question side, (n,) each.

        Without a question side every question is inside.
        """
        distance, present = self.distance
        image, questions = present & (distance <= self.bundle.domain.limit), self.bundle.questions
        if isinstance(questions, Missing):
            return image, np.ones(len(self.store.records), dtype=bool)
        asked = [record.question for record in self.store.records]
        known = {question: questions.inside(question) for question in set(asked)}
        return image, np.array([known[question] for question in asked], dtype=bool)

    @cached_property
    def _projected(self) -> FloatArray:
        hidden, _ = self.states(self.place)
        return _project(self.bundle.probe, hidden)


def measure_columns(store: Store, probe: LinearProbe, kinds: KindModel | None = None) -> Columns:
    """Compute the columns of :attr:`StoreView.columns` while there is no bundle yet."""
    place = probe.layer, probe.position
    logits = probe.logit(_project(probe, store.hidden(place)))
    return _columns(store, logits, store.present(place), kinds)


def _columns(
    store: Store, logits: FloatArray, present: NDArray[np.bool_], kinds: KindModel | None
) -> Columns:
    values: dict[str, FloatArray] = {"probe_logit": logits}
    known = {"probe_logit": present}
    confidence = [record.confidence for record in store.records]
    have = np.array([not isinstance(one, Missing) for one in confidence], dtype=bool)
    for name in TOKEN_FEATURES:
        field = FEATURES[name].field
        found = [0.0 if isinstance(one, Missing) else getattr(one, field) for one in confidence]
        values[name], known[name] = np.array(found, dtype=np.float64), have
    planned = store.setup.generation.samples
    agreement = [
        measure_consistency(record.answer, record.samples, planned) for record in store.records
    ]
    values["agreement"] = np.array(
        [0.0 if isinstance(one, Missing) else one.agreement for one in agreement]
    )
    known["agreement"] = np.array([not isinstance(one, Missing) for one in agreement], dtype=bool)
    columns = Columns(values, known)
    return columns if kinds is None else _with_kinds(columns, store, kinds)


def _with_kinds(columns: Columns, store: Store, model: KindModel) -> Columns:
    """Add, for each kind of question, columns that are zero for answers of other kinds."""
    told = {one: model.tell(one) for one in {record.question for record in store.records}}
    found = [told[record.question] for record in store.records]
    have = np.array([not isinstance(one, Missing) for one in found], dtype=bool)
    names = np.array([None if isinstance(one, Missing) else one.kind for one in found], object)
    values, known = dict(columns.values), dict(columns.known)
    for kind in model.kinds:
        of_kind = np.asarray(names == kind, dtype=np.float64)
        values[f"{KIND}@{kind}"], known[f"{KIND}@{kind}"] = of_kind, have
        for name in FEATURES:
            values[f"{name}@{kind}"] = columns.values[name] * of_kind
            known[f"{name}@{kind}"] = columns.known[name] & have
    return Columns(values, known)


def measure_proper(store: Store) -> NDArray[np.bool_]:
    """Return whether each answer is one that a person could mean, not degenerate, (n,)."""
    answers = [record.answer for record in store.records]
    proper = {answer: measure_form(answer).degenerate is None for answer in set(answers)}
    return np.array([proper[answer] for answer in answers], dtype=bool)


def _project(probe: LinearProbe, hidden: NDArray[np.float16]) -> FloatArray:
    """Project a block of answers at a time: all of them in float64 would take too much memory."""
    blocks = [hidden[start : start + BLOCK] for start in range(0, len(hidden), BLOCK)]
    return np.concatenate([probe.project(block) for block in blocks])


def measure_risk(columns: Columns, model: RiskModel) -> FloatArray:
    """Calibrated risk of every answer, (n,); infinite where a signal that it needs is missing."""
    risk = np.full(len(columns.values["probe_logit"]), np.inf)
    rows = columns.complete(model.features)
    if rows.any():
        risk[rows] = model.score(columns.take(model.features, rows))
    return risk
