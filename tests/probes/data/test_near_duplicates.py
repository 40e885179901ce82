"""Frames of one scene are joined, other scenes of the same style are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import shift

from probes.data.near_duplicates import SIDE, connect, join, look, nearest
from testbed.degrade import degrade
from testbed.drawing import render
from testbed.scenes import make_scene

SCENES = 60


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def moved(image: np.ndarray, down: float, right: float) -> np.ndarray:
    return shift(image, (down, right, 0), order=1, mode="nearest")


def exposed(image: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(image * gain, 0, 255).astype(np.uint8)


def noisy(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    return np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


FRAMES = {
    "noise": lambda image, rng: noisy(image, rng, 8),
    "jpeg": lambda image, rng: jpeg(image, 40),
    "darker": lambda image, rng: exposed(image, 0.85),
    "brighter": lambda image, rng: exposed(image, 1.12),
    "1 pixel": lambda image, rng: moved(image, 1, -1),
    "3 pixels": lambda image, rng: moved(image, -3, 0),
    "smaller": lambda image, rng: np.asarray(Image.fromarray(image).resize((180, 180))),
    "all of it": lambda image, rng: jpeg(
        noisy(exposed(moved(image, *rng.uniform(-2, 2, 2)), rng.uniform(0.9, 1.1)), rng, 5), 75
    ),
    "the line's own": lambda image, rng: np.asarray(degrade(Image.fromarray(image), rng, 0.05)),
}


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """Of the embedded line: one style of drawing, and hard to tell apart by their looks."""
    return [np.asarray(render(make_scene(seed, "line"))) for seed in range(SCENES)]


def labels_of(looks: np.ndarray, named: np.ndarray | None = None) -> np.ndarray:
    count = len(looks)
    names = np.zeros(count, dtype=bool) if named is None else named
    pairs = join(looks, np.arange(count), names)
    ends = np.array([(one.first, one.second) for one in pairs], dtype=int).reshape(-1, 2)
    return connect(np.arange(count), ends[:, 0], ends[:, 1])


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_are_joined_and_scenes_are_not(scenes: list[np.ndarray], kind: str) -> None:
    rng = np.random.default_rng(3)
    frames = [FRAMES[kind](image, rng) for image in scenes]
    labels = labels_of(np.stack([look(image) for image in (*scenes, *frames)]))
    assert np.unique(labels[:SCENES]).size == SCENES
    assert (labels[:SCENES] == labels[SCENES:]).mean() >= 0.98


def test_many_frames_of_one_scene_are_one_group(scenes: list[np.ndarray]) -> None:
    rng = np.random.default_rng(4)
    looks = [look(noisy(scenes[number % 3], rng, 6)) for number in range(1500)]  # three blocks
    labels = labels_of(np.stack(looks))
    assert np.unique(labels).size == 3
    assert all(np.unique(labels[start::3]).size == 1 for start in range(3))


def test_pairs_connect_what_is_joined_and_no_more_are_told(scenes: list[np.ndarray]) -> None:
    looks = np.stack([look(scenes[0])] * 10 + [look(scenes[1])])
    pairs = join(looks, np.arange(11), np.zeros(11, dtype=bool))
    assert len(pairs) == 9
    assert all(one.first < one.second < 10 and one.distance < 0.01 for one in pairs)
    assert join(looks, np.array([0] * 10 + [1]), np.zeros(11, dtype=bool)) == []


def test_who_names_them_knows(scenes: list[np.ndarray]) -> None:
    looks = np.stack([look(scenes[0])] * 3)
    assert np.unique(labels_of(looks, np.array([True, True, True]))).size == 3
    assert np.unique(labels_of(looks, np.array([True, False, False]))).size == 1


def test_even_pictures_are_told_by_their_brightness_and_colour() -> None:
    greys = [np.full((32, 32, 3), level, dtype=np.uint8) for level in (60, 128, 200)]
    red = np.zeros((32, 32, 3), dtype=np.uint8) + np.array([200, 20, 20], dtype=np.uint8)
    assert np.unique(labels_of(np.stack([look(one) for one in (*greys, red)]))).size == 4
    again = [*greys, greys[0] + 1]
    assert np.unique(labels_of(np.stack([look(one) for one in again]))).size == 3


def test_a_look_has_one_shape_whatever_the_image(scenes: list[np.ndarray]) -> None:
    for shape in ((1, 1, 3), (7, 300, 3), (256, 256, 3)):
        assert look(np.zeros(shape, dtype=np.uint8)).shape == (SIDE, SIDE, 3)


def test_the_nearest_of_another_group(scenes: list[np.ndarray]) -> None:
    looks = np.stack([look(one) for one in (scenes[0], scenes[0], scenes[1])])
    rows = np.arange(3)
    near = nearest(looks, np.array([0, 1, 2]), rows)
    assert near[:2] == pytest.approx([0, 0], abs=1e-3)
    apart = nearest(looks, np.array([0, 0, 1]), rows)
    assert (apart > 0.5).all()
    assert np.isinf(nearest(looks, np.array([0, 0, 0]), rows)).all()
