"""Watches whether the risks still look like those that the bundle was calibrated on."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.types import FloatArray, Missing

WINDOW = 1000
"""Answers that are compared with the reference."""

LEAST_IMAGES = 100
"""Different images that they must be about: fewer say nothing of how the risks are spread."""

DRIFT_LIMIT = 4.0
"""Ratio above which the risks have drifted. With 300 images or more in the window, ten bins and a
reference of 600 images or more, without drift about two runs of 20,000 answers in a hundred ever
pass it, also with several questions on an image, however alike their risks are. With 100 images in
the window it is one run in ten."""


@dataclass(frozen=True, slots=True)
class RiskHistogram:
    """Calibrated risks of answers that the bundle was not fitted on, before self-consistency.

    Args:
        edges: upper edges of all bins but the last, rising; a risk at an edge is in the lower bin.
        counts: answers per bin, all above 0, shape (len(edges) + 1,); every image weighs alike.
        images: different images that they are about; None: not known (earlier versions), then taken
            to have as many questions each as those that it is compared with.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    images: int | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1 or len(self.counts) < 2:
            raise ValueError("counts: needs one more bin than edges, and two bins at least")
        if min(self.counts) < 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("counts, edges: counts must be above 0 and edges rise")
        if self.images is not None and not 1 <= self.images <= sum(self.counts):
            raise ValueError("images: must be at least 1, and no more than there are answers")

    @staticmethod
    def of(
        risk: FloatArray, images: NDArray[np.str_] | None = None, bins: int = 10
    ) -> RiskHistogram | Missing:
        """Bins of equal mass (fewer where risks are equal) of finite risks, shape (n,).

        ``images`` says which image each is about, shape (n,).
        ``Missing("too_few_answers")`` below ten answers per bin, ``Missing("constant_risk")`` when
        all are equal. Raises ValueError when one is not finite.
        """
        if not np.isfinite(risk).all():
            raise ValueError("risk: not finite; leave out the answers without a risk")
        if len(risk) < 10 * bins:
            return Missing("too_few_answers")
        shares = np.arange(1, bins) / bins
        edges = np.unique(np.quantile(risk, shares, method="inverted_cdf"))
        edges = edges[edges < risk.max()]
        if len(edges) == 0:
            return Missing("constant_risk")
        found = np.searchsorted(edges, risk, side="left")
        rises = tuple(map(float, edges))
        if images is None:
            return RiskHistogram(
                rises, tuple(np.bincount(found, minlength=len(edges) + 1).tolist())
            )
        _, which, answers = np.unique(images, return_inverse=True, return_counts=True)
        weight = len(risk) / len(answers) / answers[which]
        counts = np.bincount(found, weights=weight, minlength=len(edges) + 1).round()
        return RiskHistogram(rises, tuple(map(int, np.maximum(counts, 1))), len(answers))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        plain = {"edges": list(self.edges), "counts": list(self.counts)}
        return plain if self.images is None else {**plain, "images": self.images}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RiskHistogram:
        """Read what :meth:`to_dict` wrote. Raises ValueError or KeyError naming a bad field."""
        images = fields.get("images")
        return cls(tuple(map(float, fields["edges"])), tuple(map(int, fields["counts"])), images)


class DriftMonitor:
    """Drift ratio of the last ``window`` answers against a reference: O(bins) per answer.

    Questions on one image have risks alike, so images count and not answers. With y_gk the share of
    bin k among the window's answers on image g of G, and a share p_k of the reference in it,

        sum_k (sum_g y_gk - G p_k)^2 / (G p_k)  /  (d (1 + d' / N)),
        d = mean_g sum_k y_gk^2 / p_k - 1,

    where d is the variance of an image's shares: bins - 1 with one question per image (Pearson's
    statistic over its mean), down to that over the number of questions where they have nothing in
    common. It hangs little on where the risks lie, so a drift does not hide itself. d' / N is the
    same for the reference. The ratio is 1 on average for independent images without drift, and
    grows by about G / d times the chi-square distance of the distributions.

    It knows images by their bytes: frames of one still scene that differ in their noise are taken
    for different ones and raise it.

    Args:
        reference: histogram in the bundle.
        window: answers compared.
    """

    def __init__(self, reference: RiskHistogram, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError(f"window: {window} must be at least 1")
        self.reference = reference
        self.window = window
        self._answers: deque[tuple[str, int]] = deque()
        self._images: dict[str, NDArray[np.int64]] = {}
        self._shares = np.array(reference.counts) / sum(reference.counts)
        self._sum = np.zeros(len(self._shares))
        self._square = 0.0

    @property
    def empty(self) -> bool:
        """Whether the window holds no answer yet."""
        return not self._answers

    def update(self, risk: float, image: str) -> None:
        """Take one answer's stage-one risk, whatever was decided, and its image's hash.

        Raises ValueError on NaN.
        """
        if risk != risk:
            raise ValueError("risk: is not a number; leave out answers without a risk")
        index = bisect_left(self.reference.edges, risk)
        self._answers.append((image, index))
        self._change(image, index, 1)
        if len(self._answers) > self.window:
            self._change(*self._answers.popleft(), -1)

    def ratio(self) -> float | Missing:
        """The ratio, >= 0, or ``Missing``: ``window_not_full``, ``too_few_images``."""
        if len(self._answers) < self.window:
            return Missing("window_not_full")
        images = len(self._images)
        if images < LEAST_IMAGES:
            return Missing("too_few_images")
        most = len(self._shares) - 1
        expected = images * self._shares
        pearson = float(((self._sum - expected) ** 2 / expected).sum())
        spread = max(self._square / images - 1, most * images / len(self._answers))
        return pearson / (spread + most * images * self._reference_variance(spread / most))

    def _reference_variance(self, spread: float) -> float:
        """Of one bin's share in the reference over that of one answer, if its images are alike.

        ``spread``: variance of an image's shares in the window over that of one answer's.
        """
        answers, questions = sum(self.reference.counts), len(self._answers) / len(self._images)
        per_image = questions if self.reference.images is None else answers / self.reference.images
        alike = 1.0 if questions == 1 else (spread - 1 / questions) / (1 - 1 / questions)
        return (1 + (per_image - 1) * alike) / answers

    def _change(self, image: str, index: int, by: int) -> None:
        counts = self._images.pop(image, None)
        if counts is None:
            counts = np.zeros(len(self._shares), dtype=np.int64)
        else:
            self._count(counts, -1)
        counts[index] += by
        if counts.any():
            self._images[image] = counts
            self._count(counts, 1)

    def _count(self, counts: NDArray[np.int64], sign: int) -> None:
        shares = counts / counts.sum()
        self._sum += sign * shares
        self._square += sign * float((shares**2 / self._shares).sum())
