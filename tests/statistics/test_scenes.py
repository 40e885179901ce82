"""Frames of one scene with other hashes: found by their pixels and tested as one group."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from benchmarks.certificate_power import Answers, Rule, new_rule, old_rule
from probes.data.groups import group
from probes.data.near_duplicates import look
from probes.data.record import Record
from probes.signals.sampling import image_hash

ALPHA, DELTA = 0.10, 0.05
LONG = pytest.mark.long
SCENES = {5: (100, 200), 20: (60, 120)}
"""Scenes of the selection and of the calibration split, by frames of each."""
SIDE = 48


def pictures(scenes: int, frames: int) -> tuple[np.ndarray, list[str]]:
    """Looks and hashes of so many frames of each scene: other noise, exposure and place."""
    rng = np.random.default_rng(20)
    looks, hashes = [], []
    for _ in range(scenes):
        cells = rng.integers(30, 200, size=(6, 6, 3)).astype(np.uint8)
        scene = np.asarray(Image.fromarray(cells).resize((SIDE + 2, SIDE + 2)), dtype=np.float64)
        for _ in range(frames):
            down, right = rng.integers(0, 3, size=2)
            image = scene[down : down + SIDE, right : right + SIDE] * rng.uniform(0.9, 1.1)
            image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
            looks.append(look(image))
            hashes.append(image_hash(image))
    return np.stack(looks), hashes


def answers(rng: np.random.Generator, scenes: int, frames: int) -> Answers:
    """One answer a frame; the frames of a scene are about as hard and wrong together."""
    scene = np.repeat(np.arange(scenes), frames)
    hard = rng.normal(size=scenes)
    logit = 1.6 * hard[scene] + 0.3 * rng.normal(size=len(scene)) - 2.0
    wrong = rng.random(scenes)[scene] < 1 / (1 + np.exp(-1.5 * logit))
    risk = 1 / (1 + np.exp(1.2 - hard[scene] - 0.2 * rng.normal(size=len(scene))))
    return Answers(risk, wrong, scene)


def broken_runs(frames: int, runs: int, rule: Rule, by_looks: bool) -> tuple[int, int]:
    """Broken runs, and runs with a certificate. Else than by looks each hash is a group."""
    rng = np.random.default_rng(21)
    select, calibrate = SCENES[frames]
    looks, hashes = pictures(calibrate, frames)
    population = answers(rng, 100_000, 1)
    order = np.argsort(population.risk)
    rate = np.cumsum(population.wrong[order]) / np.arange(1, len(order) + 1)
    told = np.array(hashes)
    if by_looks:
        records = [SimpleNamespace(image_hash=one, group=None) for one in hashes]
        told = group(cast("list[Record]", records), looks).labels
        assert np.unique(told).size == calibrate  # as many as there are scenes
    broken = issued = 0
    for run in range(runs):
        first, second = answers(rng, select, frames), answers(rng, calibrate, frames)
        threshold = rule(
            Answers(first.risk, first.wrong, told[: len(first.risk)]),
            Answers(second.risk, second.wrong, told),
            ALPHA,
            run,
        )
        if threshold is not None:
            issued += 1
            accepted = int(np.searchsorted(population.risk[order], threshold, side="right"))
            broken += bool(accepted and rate[accepted - 1] > ALPHA)
    return broken, issued


SIZES = [(20, 20), pytest.param(5, 2000, marks=LONG), pytest.param(20, 500, marks=LONG)]


@pytest.mark.parametrize(("frames", "runs"), SIZES)
def test_frames_joined_by_their_looks_keep_the_promise(frames: int, runs: int) -> None:
    broken, issued = broken_runs(frames, runs, new_rule(DELTA), by_looks=True)
    print(f"{frames} frames a scene: {broken} of {runs} broken, {issued} issued")
    assert binomtest(broken, runs, DELTA, alternative="greater").pvalue > 0.01
    assert issued > 0


@pytest.mark.parametrize(("frames", "runs"), SIZES)
def test_frames_told_apart_by_their_hashes_broke_it(frames: int, runs: int) -> None:
    broken, _ = broken_runs(frames, runs, old_rule(DELTA), by_looks=False)
    print(f"{frames} frames a scene, before: {broken} of {runs} broken")
    assert binomtest(broken, runs, DELTA, alternative="greater").pvalue < 0.01
