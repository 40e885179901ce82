"""What a production line does to a clean image."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from testbed.palette import DARK, LIGHT, RGB_OF, SIZE, Floats, disc, mix


@lru_cache(maxsize=1)
def _noise() -> Floats:
    rng = np.random.Generator(np.random.PCG64(5))
    return rng.standard_normal((2 * SIZE, 2 * SIZE, 3)).astype(np.float32)


def _occlude(image: Image.Image, rng: np.random.Generator, s: float) -> Image.Image:
    look, side = rng.random(), float(rng.uniform(0.1, 0.9)) * SIZE
    lean, bow = float(rng.uniform(-90, 90)), float(rng.uniform(-50, 50))
    steps = np.linspace(-0.05, 1.05, 14)
    run = [(side + lean * (t - 0.5) + bow * math.sin(3 * t), t * SIZE) for t in steps]
    if rng.random() < 0.5:
        run = [(b, a) for a, b in run]
    draw = ImageDraw.Draw(image)
    if look < 0.4:  # a cable
        width = 4 + 16 * s
        shell = RGB_OF[("black", "red", "blue", "yellow")[int(rng.integers(4))]]
        for part, tone in ((1.0, mix(shell, DARK, 0.6)), (0.75, shell),
                           (0.2, mix(shell, LIGHT, 0.45))):  # fmt: skip
            draw.line(run, fill=tone, width=max(1, round(width * part)), joint="curve")
        return image
    mask = Image.new("L", (SIZE // 2, SIZE // 2), 0)
    pen = ImageDraw.Draw(mask)
    shadow = look < 0.75
    depth = int(60 + 150 * s) if shadow else 255
    half = [(a / 2, b / 2) for a, b in run]
    if not shadow:  # a gloved finger reaches only part of the way
        half = half[: 6 + int(4 * s)]
    width = round(10 + 38 * s if shadow else 6 + 14 * s)
    pen.line(half, fill=depth, width=width, joint="curve")
    disc(pen, *half[-1], width / 2, fill=depth)
    mask = mask.filter(ImageFilter.BoxBlur(4 if shadow else 1))
    image.paste(DARK if shadow else (92, 126, 158), (0, 0), mask.resize((SIZE, SIZE)))
    return image


def _tilt(image: Image.Image, rng: np.random.Generator, s: float) -> Image.Image:
    turn = math.radians(float(rng.uniform(-8, 8)) * s)
    px, py = rng.uniform(-0.0009, 0.0009, 2) * s
    sx, sy = rng.uniform(-7, 7, 2) * s
    c, n, mid = math.cos(turn), math.sin(turn), SIZE / 2
    to_mid = np.array([[1, 0, -mid], [0, 1, -mid], [0, 0, 1]])
    zoom = 1 + 0.08 * s
    warp = np.array([[c * zoom, -n, sx], [n, c * zoom, sy], [px, py, 1]])
    whole = np.linalg.inv(to_mid) @ warp @ to_mid
    flat = (whole / whole[2, 2]).ravel()[:8].tolist()
    return image.transform(image.size, Image.Transform.PERSPECTIVE, flat,
                           Image.Resampling.BILINEAR, fillcolor=(38, 39, 42))  # fmt: skip


def _threefold(plane: NDArray[Any]) -> Floats:
    """One plane as three equal channels; faster than broadcasting over the last axis."""
    return np.repeat(plane.astype(np.float32), 3, axis=1).reshape(SIZE, SIZE, 3)


def degrade(image: Image.Image, rng: np.random.Generator, s: float) -> Image.Image:
    """Degrade a clean image; every effect grows with the severity s, 0 to 1."""
    present = rng.random(7) < (0.6, 0.85, 0.85, 0.55, 0.8, 0.9, 0.5)
    seeds = [np.random.Generator(np.random.PCG64(int(v))) for v in rng.integers(0, 2**31, 7)]
    if present[0] and s > 0.1:
        image = _occlude(image, seeds[0], s)
    if present[1]:
        image = _tilt(image, seeds[1], s)
    field = np.array(image, dtype=np.float32)
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    if present[2]:
        gain, gx, gy = seeds[2].uniform(-1, 1, 3)
        light = 2.0 ** (1.1 * s * gain + s * (0.8 * gx * axis[None, :] + 0.8 * gy * axis[:, None]))
        field *= _threefold(light)
    if present[3]:
        for _ in range(1 + int(seeds[3].integers(2))):
            cx, cy, wide, power = seeds[3].uniform((-0.8, -0.8, 0.15, 0.5), (0.8, 0.8, 0.4, 1.0))
            gx_, gy_ = (np.exp(-(((axis - m) / wide) ** 2)) for m in (cx, cy))
            field += _threefold(gy_[:, None] * gx_[None, :] * (380 * s * power))
    image = Image.fromarray(np.clip(field, 0, 255, out=field).astype(np.uint8))
    if present[4]:
        power = 0.3 + 0.7 * seeds[4].random()
        if seeds[4].random() < 0.6:
            # Two box passes look Gaussian and cost a tenth.
            soft = ImageFilter.BoxBlur(4.2 * s * power)
            image = image.filter(soft).filter(soft)
        else:
            reach = 1 + int(9 * s * power)
            size = (reach, 0) if seeds[4].random() < 0.5 else (0, reach)
            image = image.filter(ImageFilter.BoxBlur(size))
    if present[5]:
        oy, ox = (int(v) for v in seeds[5].integers(0, SIZE, 2))
        grain = _noise()[oy : oy + SIZE, ox : ox + SIZE] * np.float32(34 * s * seeds[5].random())
        grain += np.asarray(image)
        noisy = np.clip(grain, 0, 255, out=grain)
        image = Image.fromarray(noisy.astype(np.uint8))
    if present[6]:
        store = io.BytesIO()
        image.save(store, "JPEG", quality=int(88 - 70 * s))
        image = Image.open(store).convert("RGB")
    return image
