"""Renders scenes as inspection images."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from testbed.degrade import degrade
from testbed.palette import BASE, DARK, LIGHT, RGB, RGB_OF, SIZE, Floats, disc, mix
from testbed.scenes import FINISHES, GRID, Defect, Part, Scene, cells_of, scene_rng
from testbed.scenes import severity as own_severity

CELL = SIZE // GRID


def render(scene: Scene, severity: float | None = None) -> NDArray[np.uint8]:
    """Draw the scene, uint8 (256, 256, 3); ``severity`` (0 to 1) overrides the scene's own."""
    level = own_severity(scene) if severity is None else severity
    image = _draw_scene(scene)
    if level > 0:
        image = degrade(image, scene_rng(scene.seed, scene.domain, 105), float(level))
    return np.asarray(image, dtype=np.uint8).copy()


@lru_cache(maxsize=len(FINISHES))
def _texture(finish: str) -> Floats:
    rng = np.random.Generator(np.random.PCG64(FINISHES.index(finish)))
    side = SIZE + 64
    grain: Floats = rng.standard_normal((side, side)).astype(np.float32)
    if finish == "steel":
        kernel = np.ones(41) / 41
        rows = [np.convolve(row, kernel, "same") for row in grain]
        grain = (np.stack(rows) * 40).astype(np.float32)
    elif finish == "green paint":
        coarse = Image.fromarray(rng.integers(0, 256, (80, 80), dtype=np.uint8))
        fine = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
        grain = (fine - np.float32(128)) / np.float32(16)
    else:
        grain *= {"anodised": 4.0, "beige plastic": 3.0}.get(finish, 1.5)
    texture: Floats = (np.array(BASE[finish]) + grain[:, :, None]).astype(np.float32)
    return texture


def _draw_scene(scene: Scene) -> Image.Image:
    rng = scene_rng(scene.seed, scene.domain, 107)
    oy, ox = (int(v) for v in rng.integers(0, 64, 2))
    field = _texture(scene.finish)[oy : oy + SIZE, ox : ox + SIZE].copy()
    lo, hi = rng.uniform(0.92, 1.08, 2)
    field *= np.linspace(lo, hi, SIZE, dtype=np.float32)[:, None, None]
    places: list[tuple[Part | Defect, float, float, float, float]] = []
    for (row, col), thing in cells_of(scene).items():
        dx, dy = rng.uniform(-5, 5, 2)
        scale, angle = float(rng.uniform(0.9, 1.1)), float(rng.uniform(-1, 1))
        x, y = (col + 0.5) * CELL + float(dx), (row + 0.5) * CELL + float(dy)
        places.append((thing, x, y, scale, angle))
        if isinstance(thing, Defect) and thing.kind in ("dent", "stain"):
            _soft_defect(field, thing.kind, x, y, scale, rng)
    image = Image.fromarray(np.clip(field, 0, 255, out=field).astype(np.uint8))
    shade = Image.new("L", (SIZE // 2, SIZE // 2), 0)
    pen = ImageDraw.Draw(shade)
    for thing, x, y, scale, _ in places:
        if isinstance(thing, Part) and thing.type not in ("hole", "washer"):
            cx, cy, r = x / 2 + 2, y / 2 + 2.5, 11.5 * scale
            flat = 0.8 if thing.type in ("label", "connector") else 1.0
            pen.ellipse((cx - r, cy - r * flat, cx + r, cy + r * flat), fill=110)
    shade = shade.filter(ImageFilter.BoxBlur(2)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    image.paste(DARK, (0, 0), shade)
    draw = ImageDraw.Draw(image)
    if scene.body == "housing":
        image.paste((24, 25, 28), (0, 0), _corners())
    _draw_body(draw, scene)
    for thing, x, y, scale, angle in places:
        if isinstance(thing, Part):
            _draw_part(draw, thing, x, y, scale, angle, rng)
        elif thing.kind not in ("dent", "stain"):
            _hard_defect(draw, thing.kind, BASE[scene.finish], x, y, scale, rng)
    return image


@lru_cache(maxsize=1)
def _corners() -> Image.Image:
    """Mask of what lies outside the rounded housing."""
    mask = Image.new("L", (SIZE, SIZE), 255)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, SIZE - 1, SIZE - 1), 26, fill=0)
    return mask


def _draw_body(draw: ImageDraw.ImageDraw, scene: Scene) -> None:
    base = BASE[scene.finish]
    dark, light = mix(base, DARK, 0.55), mix(base, LIGHT, 0.5)
    end = SIZE - 1
    if scene.body == "plate":
        draw.rectangle((0, 0, end, end), outline=(24, 25, 28), width=3)
        draw.line((3, end - 3, 3, 3, end - 3, 3), fill=light, width=2)
        draw.line((3, end - 3, end - 3, end - 3, end - 3, 3), fill=dark, width=2)
    else:
        draw.rounded_rectangle((0, 0, end, end), 26, outline=dark, width=5)
        draw.rounded_rectangle((5, 5, end - 5, end - 5), 22, outline=light, width=1)


class Frame:
    """Maps local part coordinates to the image: turn, scale, shift."""

    def __init__(self, x: float, y: float, scale: float, degrees: float) -> None:
        self.x, self.y = x, y
        turn = math.radians(degrees)
        self.c, self.s = math.cos(turn) * scale, math.sin(turn) * scale

    def at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(self.x + u * self.c - v * self.s, self.y + u * self.s + v * self.c)
                for u, v in points]  # fmt: skip

    def box(self, u: float, v: float, w: float, h: float) -> list[tuple[float, float]]:
        return self.at((u - w, v - h), (u + w, v - h), (u + w, v + h), (u - w, v + h))


def _draw_part(
    draw: ImageDraw.ImageDraw, part: Part, x: float, y: float, scale: float, angle: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    color = RGB_OF[part.color] if part.color else DARK
    black = part.color == "black"
    edge: RGB = (150, 152, 158) if black else mix(color, DARK, 0.72)
    ink: RGB = (225, 225, 228) if black or part.color in ("red", "blue", "green") else (30, 30, 34)
    r = 22.0 * scale
    if part.type == "screw":
        r = 20.0 * scale
        disc(draw, x, y, r, fill=edge)
        for i in range(5):
            t = i / 4
            tone = mix(mix(color, DARK, 0.35), mix(color, LIGHT, 0.35), t)
            disc(draw, x - 3.5 * t, y - 3.5 * t, (r - 2) * (1 - 0.55 * t), fill=tone)
        slot: RGB = (170, 172, 176) if black else mix(color, DARK, 0.85)
        f = Frame(x, y, scale, angle * 90)
        draw.line(f.at((-12, 0), (12, 0)), fill=slot, width=5)
        draw.line(f.at((0, -12), (0, 12)), fill=slot, width=5)
    elif part.type == "washer":
        disc(draw, x + 1.5, y + 2, r, outline=(40, 40, 44), width=3)
        disc(draw, x, y, r, outline=color, width=round(12 * scale))
        disc(draw, x, y, r, outline=edge, width=2)
        disc(draw, x, y, r - 11 * scale, outline=edge, width=2)
        box = (x - r + 5, y - r + 5, x + r - 5, y + r - 5)
        draw.arc(box, 190, 260, fill=mix(color, LIGHT, 0.45), width=2)
    elif part.type == "hole":
        disc(draw, x + 1, y + 1, r * 0.80, fill=(232, 233, 235))
        for i, tone_value in enumerate((110, 80, 50, 28, 14, 6)):
            disc(draw, x, y, r * (0.78 - 0.035 * i), fill=(tone_value,) * 3)
    elif part.type == "label":
        side = 1 if angle >= 0 else -1
        f = Frame(x, y, scale, side * (20 + 12 * abs(angle)) if part.tilted else angle * 3)
        draw.polygon(f.box(0, 0, 25, 17), fill=edge)
        draw.polygon(f.box(0, 0, 23.5, 15.5), fill=color)
        for v, half in ((-10, 18.0), (-4, 10.0 + 6 * float(rng.random()))):
            draw.line(f.at((-18, v), (half, v)), fill=ink, width=3)
        u = -18.0
        while u < 17:
            wide = 2 + 2 * int(rng.random() < 0.4)
            draw.line(f.at((u, 2), (u, 11)), fill=ink, width=wide)
            u += wide + 3
    elif part.type == "seal":
        f = Frame(x, y, scale, angle * 18)
        lobes = [i * math.pi / 20 for i in range(40)]
        for grow, tone in ((1.0, edge), (0.92, color)):
            draw.polygon(f.at(*[((22 + 2.6 * math.cos(10 * a)) * grow * math.cos(a),
                                 (22 + 2.6 * math.cos(10 * a)) * grow * math.sin(a))
                                for a in lobes]), fill=tone)  # fmt: skip
        rim = mix(color, LIGHT, 0.35) if black else mix(color, DARK, 0.4)
        disc(draw, x, y, 14.5 * scale, outline=rim, width=2)
        star = [((10.5 if i % 2 == 0 else 4.5), i * math.pi / 5 - math.pi / 2) for i in range(10)]
        draw.polygon(f.at(*[(q * math.cos(a), q * math.sin(a)) for q, a in star]), fill=ink)
    else:
        f = Frame(x, y, scale, angle * 5)
        draw.polygon(f.box(0, 0, 27, 6), fill=edge)
        draw.polygon(f.box(0, 0, 23, 18), fill=edge)
        draw.polygon(f.box(0, 0, 21.5, 16.5), fill=color)
        draw.line(f.at((-21, -15), (21, -15)), fill=mix(color, LIGHT, 0.4), width=2)
        draw.polygon(f.box(0, 0, 16.5, 10.5), fill=mix(color, DARK, 0.7))
        for v in (-5, 5):
            for u in (-12, -4, 4, 12):
                draw.polygon(f.box(u, v, 2.4, 3.2), fill=(236, 212, 140))


def _soft_defect(
    field: Floats, kind: str, x: float, y: float, scale: float, rng: np.random.Generator
) -> None:
    left, top = int(x) - 28, int(y) - 28
    x0, y0 = max(left, 0), max(top, 0)
    patch = field[y0 : top + 56, x0 : left + 56]
    v, u = np.mgrid[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]].astype(np.float32)
    u, v = (u - x) / (19 * scale), (v - y) / (19 * scale)
    d = np.hypot(u, v)
    if kind == "dent":
        slope = (u + v) * np.exp(-((d / 0.85) ** 4))
        patch += (np.where(slope > 0, 150, 75) * slope)[:, :, None]
    else:
        a = np.arctan2(v, u)
        p, q = rng.uniform(0, 6.28, 2)
        reach = 0.95 + 0.18 * np.sin(2 * a + p) + 0.14 * np.sin(5 * a + q)
        cover = np.clip((reach - d) * 5, 0, 1) * (0.62 + 0.25 * np.clip(d / reach, 0, 1) ** 3)
        patch += cover[:, :, None] * (np.array([88, 52, 18], dtype=np.float32) - patch)


def _hard_defect(
    draw: ImageDraw.ImageDraw, kind: str, base: RGB, x: float, y: float, scale: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    f = Frame(x, y, scale, float(rng.uniform(0, 180)))
    if kind == "scratch":
        for v in (-7, 0, 6)[: 2 + int(rng.random() < 0.5)]:
            u, bend = float(rng.uniform(-4, 4)), float(rng.uniform(-3, 3))
            line = ((u - 22, v), (u, v + bend), (u + 22, v + bend / 2))
            draw.line(f.at(*[(p, q + 2) for p, q in line]), fill=mix(base, DARK, 0.6), width=2)
            draw.line(f.at(*line), fill=LIGHT, width=3)
    elif kind == "crack":
        spine = [(-25 + 50 * i / 8, float(rng.uniform(-7, 7)) * (i % 2 * 2 - 1)) for i in range(9)]
        rim = [(p + 1.5, q + 1.5) for p, q in f.at(*spine)]
        draw.line(rim, fill=mix(base, LIGHT, 0.55), width=6, joint="curve")
        draw.line(f.at(*spine), fill=DARK, width=4, joint="curve")
        for i in (2, 4, 6):
            p, q = spine[i]
            way = 1 if i == 4 else -1
            branch = f.at((p, q), (p + 5, q + 9 * way), (p + 7, q + 16 * way))
            draw.line(branch, fill=DARK, width=3)
    else:
        r = 22 * scale
        disc(draw, x, y, r + 1, fill=(60, 62, 66))
        disc(draw, x, y, r - 1, fill=(236, 238, 242))
        disc(draw, x, y, r - 7, fill=(24, 24, 27))
        for gap in (9.5, 13.0, 16.5):
            disc(draw, x + 1, y + 1, r - gap, outline=(150, 152, 156), width=1)
