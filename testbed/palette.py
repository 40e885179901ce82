"""Colors, and the few strokes that drawing and degrading share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

RGB = tuple[int, int, int]
Floats = NDArray[np.float32]

SIZE = 256
DARK: RGB = (12, 12, 14)
LIGHT: RGB = (250, 250, 250)
RGB_OF: dict[str, RGB] = {
    "red": (205, 38, 38), "blue": (38, 84, 212), "green": (30, 158, 62), "yellow": (244, 208, 36),
    "white": (246, 246, 244), "black": (28, 28, 31), "silver": (198, 202, 208),
    "brass": (204, 158, 62),
}  # fmt: skip
BASE: dict[str, RGB] = {
    "steel": (148, 153, 160), "anodised": (66, 68, 76), "green paint": (106, 132, 118),
    "beige plastic": (205, 188, 156), "light grey": (192, 195, 198),
}  # fmt: skip


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Blend two colors; t = 0 gives a, t = 1 gives b."""
    return tuple(int(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, **style: Any) -> None:
    """Draw a disc of radius r (pixels) around (x, y)."""
    draw.ellipse((x - r, y - r, x + r, y + r), **style)
