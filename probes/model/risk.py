"""The risk model: a logistic model on named features of the signals, then a calibration map.

Candidates are compared on the selection split, out of fold: token confidence alone, the probe
alone, both, and both with weights of their own per kind of question. The simplest one within noise
of the best is kept, so the risk is never worse than token confidence beyond noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from probes.model.calibration import CalibrationMap
from probes.signals.catalogue import FEATURES
from probes.types import FloatArray, Missing, Signals

KIND = "kind"
"""``kind@presence`` is 1 where the question's kind is ``presence``, else 0."""


@dataclass(frozen=True, slots=True, eq=False)
class RiskModel:
    """Calibrated probability that the answer is wrong.

    Args:
        features: in the order of the weights: names of
            :data:`~probes.signals.catalogue.FEATURES`, and with ``@`` and a
            kind (``margin@presence``, ``kind@presence``) what counts for that kind alone.
        weights: per feature in its own unit, shape (features,).
        intercept: log-odds.
        calibration: from the logistic model's log-odds to P(wrong).
    """

    features: tuple[str, ...]
    weights: FloatArray
    intercept: float
    calibration: CalibrationMap

    @property
    def required(self) -> tuple[str, ...]:
        """The signals that the features read, each once, in order."""
        return tuple(dict.fromkeys(signal for name in self.features for signal in _signals(name)))

    def raw(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Log-odds before calibration: a column (answers,) per feature -> (answers,)."""
        table = np.column_stack([columns[name] for name in self.features])
        return np.asarray(table @ self.weights + self.intercept, dtype=np.float64)

    def score(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Calibrated risks in [0, 1]: a column (answers,) per feature -> (answers,)."""
        return np.asarray(self.calibration.predict(self.raw(columns)), dtype=np.float64)

    def assess(self, signals: Signals) -> float | Missing:
        """Return the risk of one answer, or the reason of the first signal that is missing."""
        columns: dict[str, FloatArray] = {}
        for name in self.features:
            value = _value(name, signals)
            if isinstance(value, Missing):
                return value
            columns[name] = np.array([value], dtype=np.float64)
        return float(self.score(columns)[0])


def split_feature(name: str) -> tuple[str, str | None]:
    """Split a feature's name into the feature and the kind of question it is for, if any."""
    feature, at, kind = name.partition("@")
    return feature, kind if at else None


def _signals(name: str) -> tuple[str, ...]:
    """Return the signals that a feature reads."""
    feature, kind = split_feature(name)
    own = () if feature == KIND else (FEATURES[feature].signal,)
    return own if kind is None else (*own, "question_kind")


def _value(name: str, signals: Signals) -> float | Missing:
    """Return a feature of one answer, or the reason of the first signal that is missing."""
    read = {one: getattr(signals, one) for one in _signals(name)}
    for signal in read.values():
        if isinstance(signal, Missing):
            return signal
    feature, kind = split_feature(name)
    if kind is not None and read["question_kind"].kind != kind:
        return 0.0
    if feature == KIND:
        return 1.0
    score = FEATURES[feature]
    return float(getattr(read[score.signal], score.field))
