"""Which rectangle of the original image each image token covers, undoing what processors do.

Every function takes the image's (height, width) in pixels and the grid of the image tokens, and
returns boxes (tokens, 4): left, top, right, bottom in pixels of the original image, in raster
order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from probes.types import FloatArray, Missing

Grid = tuple[int, int]
ImageSize = tuple[int, int]


def resized_boxes(config: Any, processor: Any, image_size: ImageSize, grid: Grid) -> FloatArray:
    """For an image that is resized as a whole, whatever its shape: even parts of it."""
    height, width = image_size
    return _boxes((0.0, 0.0, float(width), float(height)), grid)


def cropped_boxes(
    config: Any, processor: Any, image_size: ImageSize, grid: Grid
) -> FloatArray | Missing:
    """For an image whose shortest edge is resized and whose centre is cut out (CLIP).

    Parts of the image outside the crop belong to no token.
    """
    images = processor.image_processor
    edge = _get(images.size, "shortest_edge")
    if edge is None or not images.do_center_crop:
        if edge is None and not images.do_center_crop and not getattr(images, "do_pad", False):
            return resized_boxes(config, processor, image_size, grid)
        return Missing("unknown_image_geometry")
    height, width = image_size
    short = min(height, width)
    # The longer edge is rounded down, as the processor does it.
    resized_height, resized_width = (int(edge * side / short) for side in image_size)
    crop_height, crop_width = _get(images.crop_size, "height"), _get(images.crop_size, "width")
    if crop_height is None or crop_width is None or max(crop_height, crop_width) > edge:
        return Missing("unknown_image_geometry")
    top, left = (resized_height - crop_height) // 2, (resized_width - crop_width) // 2
    across, down = width / resized_width, height / resized_height
    crop = (
        left * across,
        top * down,
        (left + crop_width) * across,
        (top + crop_height) * down,
    )
    return _boxes(crop, grid)


def unknown_boxes(config: Any, processor: Any, image_size: ImageSize, grid: Grid) -> Missing:
    """For families whose processing is not known."""
    return Missing("unknown_image_geometry")


def _get(size: Any, name: str) -> int | None:
    value = size.get(name) if isinstance(size, dict) else getattr(size, name, None)
    return None if value is None else int(value)


def _boxes(area: tuple[float, float, float, float], grid: Grid) -> FloatArray:
    """The cells of a grid over an area (left, top, right, bottom)."""
    left, top, right, bottom = area
    rows, columns = grid
    x = np.linspace(left, right, columns + 1)
    y = np.linspace(top, bottom, rows + 1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1)
