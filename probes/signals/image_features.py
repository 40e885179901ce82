"""A few cheap features of an image: what the domain of validity sees beside the model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probes.types import ImageArray

_SIDE = 128
_ENOUGH = 2 * _SIDE  # pixels along the short side; of larger images every step-th is read
_SCALES = 4
IMAGE_FEATURES: tuple[str, ...] = (
    "log2_size",
    "log2_aspect",
    "brightness",
    "contrast",
    "shadows",
    "highlights",
    "red_green",
    "yellow_blue",
    "colourfulness",
    "vignette",
    *(f"log2_texture_{scale}" for scale in range(_SCALES)),
    "sparsity",
)


def image_features(image: ImageArray) -> NDArray[np.float64]:
    """Measure exposure, colour, sharpness and size of an image, shape (features,).

    All but the two size features are taken after a resize to 128 x 128, so that they do not depend
    on the resolution. Brightness and colour are in 0 to 1; texture is the log2 of the mean absolute
    Laplacian at scales 1, 2, 4 and 8; sparsity is the share of flat neighbours.
    """
    height, width = image.shape[:2]
    # This runs for every request, and takes as long as decoding: few passes, each over one plane.
    red, green, blue = _resized(image).transpose(2, 0, 1).astype(np.float32, order="C")
    for plane in (red, green, blue):
        plane /= np.float32(255)
    red_green = red - green
    yellow_blue = (red + green) / 2 - blue
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    centre = luma[_SIDE // 4 : -_SIDE // 4, _SIDE // 4 : -_SIDE // 4]
    shadows, highlights = _quantiles(luma, 819, 15564)  # 5 %, 95 %
    brightness, contrast = _moments(luma)
    warmth, warmth_variance = _moments(red_green)
    yellowness, yellowness_variance = _moments(yellow_blue)
    values = [
        0.5 * math.log2(height * width),
        math.log2(width / height),
        brightness,
        math.sqrt(contrast),
        shadows,
        highlights,
        warmth,
        yellowness,
        math.sqrt(warmth_variance + yellowness_variance),
        float(centre.mean()) - brightness,
    ]
    steps = luma[:, 1:] - luma[:, :-1]
    np.abs(steps, out=steps)
    for _ in range(_SCALES):
        laplacian = 4 * luma[1:-1, 1:-1]
        laplacian -= luma[:-2, 1:-1]
        laplacian -= luma[2:, 1:-1]
        laplacian -= luma[1:-1, :-2] + luma[1:-1, 2:]
        mean = float(np.add.reduce(np.abs(laplacian, out=laplacian), axis=None)) / laplacian.size
        values.append(math.log2(mean + 1 / 1024))
        luma = (luma[::2, ::2] + luma[1::2, ::2] + luma[::2, 1::2] + luma[1::2, 1::2]) / 4
    values.append(np.count_nonzero(steps < np.float32(2 / 255)) / steps.size)
    return np.array(values, dtype=np.float64)


def _quantiles(values: NDArray[np.float32], low: int, high: int) -> tuple[float, float]:
    """Return the values at two ranks; two partitions are several times faster than one at both."""
    flat = values.flatten()
    flat.partition(low)
    rest = flat[low:]
    rest.partition(high - low)
    return float(flat[low]), float(rest[high - low])


def _moments(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and variance."""
    mean = values.mean()
    centred = (values - mean).ravel()
    return float(mean), float(centred @ centred) / centred.size


def _resized(image: ImageArray) -> ImageArray:
    """Resize an image to (128, 128, 3)."""
    if image.shape[:2] == (_SIDE, _SIDE):
        return image
    step = max(1, min(image.shape[:2]) // _ENOUGH)
    picture = Image.fromarray(image[::step, ::step]).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture)
