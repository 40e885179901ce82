"""Photographs that nobody here made, and true answers to questions about them.

They ship inside scikit-image and scikit-learn (public domain, CC0 or CC-BY; see those packages'
``data/README.txt`` and ``images/README.txt``). None shows a part of the testbed's world, so the
right answer is always "no" or "0"; what is wanted of the gate is that it escalates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FILES = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/moon.png"),
    ("skimage", "data/retina.jpg"),
)
_QUESTIONS = (
    ("Is there a red washer?", "no"),
    ("How many screws are there?", "0"),
    ("Is there a scratch on the plate?", "no"),
    ("Is a screw missing?", "no"),
)


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph, RGB uint8 (height, width, 3), and two questions with their true answers."""

    name: str
    image: NDArray[np.uint8]
    questions: tuple[tuple[str, str], ...]


def photographs() -> Iterator[Photograph]:
    """The twelve photographs, in a fixed order."""
    for number, (package, path) in enumerate(_FILES):
        with files(package).joinpath(path).open("rb") as file, Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        asked = tuple(_QUESTIONS[(2 * number + step) % len(_QUESTIONS)] for step in range(2))
        yield Photograph(path.rpartition("/")[2], pixels, asked)
