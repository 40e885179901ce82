"""Certified coverage by size of the calibration split: the test on groups against the one before.

Draws of a selection and a calibration split from one run's images, the rest is the test split;
both tests get the same draw, the bundle's probe and risk are fixed. The old test (one random answer
per image, exact binomial tail, at all of delta) stands here as it was at commit 2f2d71d.

    python -m benchmarks.certificate_power runs/line/store testbed/bundles/llava --out x.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from probes.data.columns import StoreView
from probes.data.store import load
from probes.guarantee.betting import GroupedAnswers, fixed_sequence, plan_ladder
from probes.guarantee.composed import policy_risk, stage_risks
from probes.guarantee.ledger import FIRST_SHARE
from probes.model.folder import read_bundle
from probes.types import FloatArray

DELTA = 0.05
SELECT = 0.6
"""Images of the selection split per image of the calibration split, as training has it."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Answers:
    """Risk, label and image (an index) of n answers."""

    risk: FloatArray
    wrong: Bools
    image: NDArray[np.intp]

    def of(self, images: NDArray[np.intp]) -> Answers:
        rows = np.isin(self.image, images)
        return Answers(self.risk[rows], self.wrong[rows], self.image[rows])


Rule = Callable[[Answers, Answers, float, int], float | None]
"""Selection, calibration, alpha, seed -> threshold."""


def _counts(answers: Answers, thresholds: FloatArray) -> tuple[FloatArray, FloatArray]:
    accepted = np.searchsorted(np.sort(answers.risk), thresholds, side="right")
    errors = np.searchsorted(np.sort(answers.risk[answers.wrong]), thresholds, side="right")
    return accepted, errors


def old_rule(delta: float) -> Rule:
    """One answer per image; thresholds from where the selection split shows alpha best."""

    def rule(select: Answers, calibrate: Answers, alpha: float, seed: int) -> float | None:
        usable = select.risk[np.isfinite(select.risk)]
        steps = np.arange(1, 201) / 200
        thresholds = np.unique(np.quantile(usable, steps, method="inverted_cdf"))
        accepted, errors = _counts(select, thresholds)
        thresholds = thresholds[int(np.argmin(binom.logcdf(errors, accepted, alpha))) :]
        order = np.random.default_rng(seed).permutation(len(calibrate.image))
        one = np.sort(order[np.unique(calibrate.image[order], return_index=True)[1]])
        tested = Answers(calibrate.risk[one], calibrate.wrong[one], calibrate.image[one])
        accepted, errors = _counts(tested, thresholds)
        failed = binom.cdf(errors, accepted, alpha) > delta
        passed = int(np.argmax(failed)) if failed.any() else len(thresholds)
        return float(thresholds[passed - 1]) if passed else None

    return rule


def new_rule(level: float, most: int | None = None) -> Rule:
    """As ``certify`` has it; ``most`` as there."""

    def rule(select: Answers, calibrate: Answers, alpha: float, seed: int) -> float | None:
        ladder = plan_ladder(
            select.risk, select.wrong, select.image,
            alpha=alpha, level=level, count=np.unique(calibrate.image).size, most=most,
        )  # fmt: skip
        tested = GroupedAnswers.of(
            calibrate.risk, calibrate.wrong, calibrate.image, most=ladder.most, seed=seed
        )
        found = fixed_sequence(tested, ladder, alpha, level)
        return None if found is None else found.threshold

    return rule


RULES: dict[str, Rule] = {
    "old": old_rule(DELTA),
    "new": new_rule(FIRST_SHARE * DELTA),
    "new, all of delta": new_rule(DELTA),
    "new, one answer per image": new_rule(FIRST_SHARE * DELTA, most=1),
}


def oracle(answers: Answers, alpha: float) -> float:
    """Coverage of the loosest threshold at which these answers err at most alpha."""
    thresholds = np.unique(answers.risk[np.isfinite(answers.risk)])
    accepted, errors = _counts(answers, thresholds)
    good = np.flatnonzero(errors <= alpha * accepted)
    return float(accepted[good[-1]] / len(answers.risk)) if good.size else 0.0


def compare(answers: Answers, alpha: float, size: int, draws: int) -> dict[str, Any]:
    """Coverage on the test split, and the error rate of what is accepted there, per rule."""
    images = np.unique(answers.image)
    coverage: dict[str, list[float]] = {name: [] for name in RULES}
    broken = dict.fromkeys(RULES, 0)
    best = []
    for draw in range(draws):
        order = np.random.default_rng([size, draw]).permutation(images)
        ends = (round(SELECT * size), round(SELECT * size) + size)
        select, calibrate = answers.of(order[: ends[0]]), answers.of(order[ends[0] : ends[1]])
        test = answers.of(order[ends[1] :])
        best.append(oracle(test, alpha))
        for name, rule in RULES.items():
            threshold = rule(select, calibrate, alpha, draw)
            accepted = test.risk <= (-np.inf if threshold is None else threshold)
            coverage[name].append(float(accepted.mean()))
            broken[name] += bool(accepted.any() and test.wrong[accepted].mean() > alpha)
    rows = {
        name: {
            "coverage": float(np.mean(found)),
            "standard_error": float(np.std(found, ddof=1) / np.sqrt(draws)),
            "without_certificate": float(np.mean(np.array(found) == 0)),
            "above_alpha_on_test": broken[name] / draws,
        }
        for name, found in coverage.items()
    }
    gain = np.array(coverage["new"]) - np.array(coverage["old"])
    return {
        "images": size, "draws": draws, "oracle": float(np.mean(best)), "rules": rows,
        "gain": float(gain.mean()), "gain_standard_error": float(gain.std(ddof=1) / draws**0.5),
    }  # fmt: skip


def main() -> None:
    """Run it on every pair of store and bundle given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="STORE BUNDLE, may be repeated")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 550, 1000])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = []
    for folder, where in zip(asked.folders[::2], asked.folders[1::2], strict=True):
        store, bundle = load(folder), read_bundle(where)
        risk = policy_risk(stage_risks(StoreView(store, bundle)), bundle, "never")
        image = np.unique(store.groups, return_inverse=True)[1]
        answers = Answers(risk, store.wrong, image)
        found.append(
            {
                "bundle": bundle.id,
                "model": bundle.model.name,
                "store": store.fingerprint,
                "alpha": asked.alpha,
                "delta": DELTA,
                "wrong": float(store.wrong.mean()),
                "sizes": [compare(answers, asked.alpha, n, asked.draws) for n in asked.sizes],
            }
        )
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
