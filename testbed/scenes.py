"""Rendered inspection scenes: what is on a body, how it looks, and what is true of it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Domain = Literal["catalog", "line"]
Body = Literal["plate", "housing"]
RGB = tuple[int, int, int]
Floats = NDArray[np.float32]

GRID = 4
SIZE = 256
CELL = SIZE // GRID
TYPES = ("screw", "washer", "hole", "label", "seal", "connector")
COLORS = ("red", "blue", "green", "yellow", "white", "black")
SCREW_COLORS = ("silver", "brass", "black")
DEFECTS = ("scratch", "dent", "stain", "crack", "missing screw", "tilted label")
FINISHES = ("steel", "anodised", "green paint", "beige plastic", "light grey")
DOMAINS: tuple[Domain, ...] = ("catalog", "line")
NO_DEFECT_RATE = 0.3

CELL_CLASSES: tuple[str, ...] = (
    "empty",
    *(f"{c} {t}" for t in TYPES if t not in ("screw", "hole") for c in COLORS),
    *(f"{c} screw" for c in SCREW_COLORS),
    "hole",
    *DEFECTS[:5],
    *(f"tilted {c} label" for c in COLORS),
)
_CLASS_INDEX = {name: i for i, name in enumerate(CELL_CLASSES)}

_RGB: dict[str, RGB] = {
    "red": (205, 38, 38), "blue": (38, 84, 212), "green": (30, 158, 62), "yellow": (244, 208, 36),
    "white": (246, 246, 244), "black": (28, 28, 31), "silver": (198, 202, 208),
    "brass": (204, 158, 62),
}  # fmt: skip
_BASE: dict[str, RGB] = {
    "steel": (148, 153, 160), "anodised": (66, 68, 76), "green paint": (106, 132, 118),
    "beige plastic": (205, 188, 156), "light grey": (192, 195, 198),
}  # fmt: skip
# Parts come in kits, so that types occur together as they do on real bodies.
_KITS = (
    (0.26, ("screw", "screw")),
    (0.20, ("screw", "washer")),
    (0.18, ("label", "seal")),
    (0.10, ("label",)),
    (0.09, ("hole",)),
    (0.06, ("washer",)),
    (0.11, ("connector",)),
)
_COLOR_ODDS = {
    "washer": (0.26, 0.12, 0.12, 0.20, 0.10, 0.20),
    "label": (0.10, 0.16, 0.10, 0.24, 0.30, 0.10),
    "seal": (0.30, 0.20, 0.16, 0.14, 0.10, 0.10),
    "connector": (0.08, 0.18, 0.22, 0.10, 0.18, 0.24),
}


@dataclass(frozen=True)
class Part:
    """One part in one cell; a hole has no color."""

    type: str
    color: str | None
    row: int
    col: int
    tilted: bool = False


@dataclass(frozen=True)
class Defect:
    """One defect; a tilted label shares the cell of its label."""

    kind: str
    row: int
    col: int


@dataclass(frozen=True)
class Scene:
    """Everything that is true of one image."""

    seed: int
    domain: Domain
    body: Body
    finish: str
    parts: tuple[Part, ...]
    defects: tuple[Defect, ...]


def _rng(seed: int, domain: Domain, purpose: int) -> np.random.Generator:
    entropy = [seed, DOMAINS.index(domain), purpose]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _pick(u: float, odds: tuple[float, ...]) -> int:
    total = sum(odds)
    for i, odd in enumerate(odds):
        u -= odd / total
        if u < 0:
            return i
    return len(odds) - 1


def make_scene(seed: int, domain: Domain) -> Scene:
    """Draw the contents of a scene; both domains share one distribution."""
    rng = _rng(seed, domain, 101)
    body: Body = "plate" if rng.random() < 0.6 else "housing"
    finish = FINISHES[int(rng.integers(len(FINISHES)))]
    wanted = int(rng.integers(3, 9))
    types: list[str] = []
    while len(types) < wanted:
        kit = _KITS[_pick(rng.random(), tuple(k[0] for k in _KITS))][1]
        for kind in kit:
            if len(types) < wanted and types.count(kind) < 6:
                types.append(kind)
    metal = SCREW_COLORS[_pick(rng.random(), (0.5, 0.25, 0.25))]
    accent = COLORS[int(rng.integers(len(COLORS)))]
    cells = [(int(i) // GRID, int(i) % GRID) for i in rng.permutation(GRID * GRID)]
    corners = [c for c in cells if c[0] in (0, 3) and c[1] in (0, 3)]
    parts: list[Part] = []
    for kind in types:
        at_corner = [c for c in corners if c in cells]
        to_corner = kind == "screw" and bool(at_corner) and rng.random() < 0.6
        cell = at_corner[0] if to_corner else cells[0]
        cells.remove(cell)
        color: str | None = None
        if kind == "screw":
            other = SCREW_COLORS[int(rng.integers(3))]
            color = metal if rng.random() < 0.7 else other
        elif kind != "hole":
            own = COLORS[_pick(rng.random(), _COLOR_ODDS[kind])]
            color = accent if rng.random() < 0.3 else own
        parts.append(Part(kind, color, *cell))
    defects: list[Defect] = []
    u = rng.random()
    number = 0 if u < NO_DEFECT_RATE else 1 if u < 0.7 else 2
    kinds = [k for k in DEFECTS if k != "tilted label" or "label" in types]
    for i in rng.permutation(len(kinds))[:number]:
        if kinds[i] == "tilted label":
            at = types.index("label")
            p = parts[at]
            parts[at] = Part(p.type, p.color, p.row, p.col, True)
            defects.append(Defect(kinds[i], p.row, p.col))
        else:
            defects.append(Defect(kinds[i], *cells.pop(0)))
    parts.sort(key=lambda p: (p.row, p.col))
    defects.sort(key=lambda d: (d.row, d.col))
    return Scene(seed, domain, body, finish, tuple(parts), tuple(defects))


def noun(thing: Part | Defect) -> str:
    """Name without article: 'red washer', 'hole', 'scratch'."""
    if isinstance(thing, Defect):
        return thing.kind
    return thing.type if thing.color is None else f"{thing.color} {thing.type}"


def describe(thing: Part | Defect) -> str:
    """Name with article: 'a red washer'; a tilted label is still 'a red label'."""
    return f"a {noun(thing)}"


def cells_of(scene: Scene) -> dict[tuple[int, int], Part | Defect]:
    """What each non-empty cell holds; a tilted label counts as its label."""
    found: dict[tuple[int, int], Part | Defect] = {(d.row, d.col): d for d in scene.defects}
    found.update({(p.row, p.col): p for p in scene.parts})
    return dict(sorted(found.items()))


def _class_name(thing: Part | Defect) -> str:
    return f"tilted {noun(thing)}" if isinstance(thing, Part) and thing.tilted else noun(thing)


def cell_labels(scene: Scene) -> NDArray[np.int64]:
    """Class index (into CELL_CLASSES) of every cell."""
    labels = np.zeros((GRID, GRID), dtype=np.int64)
    for cell, thing in cells_of(scene).items():
        labels[cell] = _CLASS_INDEX[_class_name(thing)]
    return labels


def caption(scene: Scene) -> str:
    """Dense caption in raster order."""
    cells = cells_of(scene)
    rows = []
    for r in range(GRID):
        named = [f"{_class_name(t)} at {c + 1}" for (row, c), t in cells.items() if row == r]
        rows.append(f"row {r + 1}: {', '.join(named) or 'none'}.")
    return " ".join(rows)


def severity(scene: Scene) -> float:
    """How hard the line degraded this image, 0 to 1; 0 for the catalog."""
    return _own_severity(scene)


def _own_severity(scene: Scene) -> float:
    return 0.0 if scene.domain == "catalog" else float(_rng(scene.seed, scene.domain, 103).random())


def render(scene: Scene, severity: float | None = None) -> NDArray[np.uint8]:
    """Draw the scene; `severity` overrides the scene's own."""
    level = _own_severity(scene) if severity is None else severity
    image = _draw_scene(scene)
    if level > 0:
        image = _degrade(image, _rng(scene.seed, scene.domain, 105), float(level))
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
    texture: Floats = (np.array(_BASE[finish]) + grain[:, :, None]).astype(np.float32)
    return texture


def _mix(a: RGB, b: RGB, t: float) -> RGB:
    return tuple(int(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


_DARK: RGB = (12, 12, 14)
_LIGHT: RGB = (250, 250, 250)


def _draw_scene(scene: Scene) -> Image.Image:
    rng = _rng(scene.seed, scene.domain, 107)
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
    image.paste(_DARK, (0, 0), shade)
    draw = ImageDraw.Draw(image)
    if scene.body == "housing":
        image.paste((24, 25, 28), (0, 0), _corners())
    _draw_body(draw, scene)
    for thing, x, y, scale, angle in places:
        if isinstance(thing, Part):
            _draw_part(draw, thing, x, y, scale, angle, rng)
        elif thing.kind not in ("dent", "stain"):
            _hard_defect(draw, thing.kind, _BASE[scene.finish], x, y, scale, rng)
    return image


@lru_cache(maxsize=1)
def _corners() -> Image.Image:
    """Mask of what lies outside the rounded housing."""
    mask = Image.new("L", (SIZE, SIZE), 255)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, SIZE - 1, SIZE - 1), 26, fill=0)
    return mask


def _draw_body(draw: ImageDraw.ImageDraw, scene: Scene) -> None:
    base = _BASE[scene.finish]
    dark, light = _mix(base, _DARK, 0.55), _mix(base, _LIGHT, 0.5)
    end = SIZE - 1
    if scene.body == "plate":
        draw.rectangle((0, 0, end, end), outline=(24, 25, 28), width=3)
        draw.line((3, end - 3, 3, 3, end - 3, 3), fill=light, width=2)
        draw.line((3, end - 3, end - 3, end - 3, end - 3, 3), fill=dark, width=2)
    else:
        draw.rounded_rectangle((0, 0, end, end), 26, outline=dark, width=5)
        draw.rounded_rectangle((5, 5, end - 5, end - 5), 22, outline=light, width=1)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, **style: Any) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), **style)


class _Frame:
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
    color = _RGB[part.color] if part.color else _DARK
    black = part.color == "black"
    edge: RGB = (150, 152, 158) if black else _mix(color, _DARK, 0.72)
    ink: RGB = (225, 225, 228) if black or part.color in ("red", "blue", "green") else (30, 30, 34)
    r = 22.0 * scale
    if part.type == "screw":
        r = 20.0 * scale
        _disc(draw, x, y, r, fill=edge)
        for i in range(5):
            t = i / 4
            tone = _mix(_mix(color, _DARK, 0.35), _mix(color, _LIGHT, 0.35), t)
            _disc(draw, x - 3.5 * t, y - 3.5 * t, (r - 2) * (1 - 0.55 * t), fill=tone)
        slot: RGB = (170, 172, 176) if black else _mix(color, _DARK, 0.85)
        f = _Frame(x, y, scale, angle * 90)
        draw.line(f.at((-12, 0), (12, 0)), fill=slot, width=5)
        draw.line(f.at((0, -12), (0, 12)), fill=slot, width=5)
    elif part.type == "washer":
        _disc(draw, x + 1.5, y + 2, r, outline=(40, 40, 44), width=3)
        _disc(draw, x, y, r, outline=color, width=round(12 * scale))
        _disc(draw, x, y, r, outline=edge, width=2)
        _disc(draw, x, y, r - 11 * scale, outline=edge, width=2)
        box = (x - r + 5, y - r + 5, x + r - 5, y + r - 5)
        draw.arc(box, 190, 260, fill=_mix(color, _LIGHT, 0.45), width=2)
    elif part.type == "hole":
        _disc(draw, x + 1, y + 1, r * 0.80, fill=(232, 233, 235))
        for i, tone_value in enumerate((110, 80, 50, 28, 14, 6)):
            _disc(draw, x, y, r * (0.78 - 0.035 * i), fill=(tone_value,) * 3)
    elif part.type == "label":
        side = 1 if angle >= 0 else -1
        f = _Frame(x, y, scale, side * (20 + 12 * abs(angle)) if part.tilted else angle * 3)
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
        f = _Frame(x, y, scale, angle * 18)
        lobes = [i * math.pi / 20 for i in range(40)]
        for grow, tone in ((1.0, edge), (0.92, color)):
            draw.polygon(f.at(*[((22 + 2.6 * math.cos(10 * a)) * grow * math.cos(a),
                                 (22 + 2.6 * math.cos(10 * a)) * grow * math.sin(a))
                                for a in lobes]), fill=tone)  # fmt: skip
        rim = _mix(color, _LIGHT, 0.35) if black else _mix(color, _DARK, 0.4)
        _disc(draw, x, y, 14.5 * scale, outline=rim, width=2)
        star = [((10.5 if i % 2 == 0 else 4.5), i * math.pi / 5 - math.pi / 2) for i in range(10)]
        draw.polygon(f.at(*[(q * math.cos(a), q * math.sin(a)) for q, a in star]), fill=ink)
    else:
        f = _Frame(x, y, scale, angle * 5)
        draw.polygon(f.box(0, 0, 27, 6), fill=edge)
        draw.polygon(f.box(0, 0, 23, 18), fill=edge)
        draw.polygon(f.box(0, 0, 21.5, 16.5), fill=color)
        draw.line(f.at((-21, -15), (21, -15)), fill=_mix(color, _LIGHT, 0.4), width=2)
        draw.polygon(f.box(0, 0, 16.5, 10.5), fill=_mix(color, _DARK, 0.7))
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
    f = _Frame(x, y, scale, float(rng.uniform(0, 180)))
    if kind == "scratch":
        for v in (-7, 0, 6)[: 2 + int(rng.random() < 0.5)]:
            u, bend = float(rng.uniform(-4, 4)), float(rng.uniform(-3, 3))
            line = ((u - 22, v), (u, v + bend), (u + 22, v + bend / 2))
            draw.line(f.at(*[(p, q + 2) for p, q in line]), fill=_mix(base, _DARK, 0.6), width=2)
            draw.line(f.at(*line), fill=_LIGHT, width=3)
    elif kind == "crack":
        spine = [(-25 + 50 * i / 8, float(rng.uniform(-7, 7)) * (i % 2 * 2 - 1)) for i in range(9)]
        rim = [(p + 1.5, q + 1.5) for p, q in f.at(*spine)]
        draw.line(rim, fill=_mix(base, _LIGHT, 0.55), width=6, joint="curve")
        draw.line(f.at(*spine), fill=_DARK, width=4, joint="curve")
        for i in (2, 4, 6):
            p, q = spine[i]
            way = 1 if i == 4 else -1
            branch = f.at((p, q), (p + 5, q + 9 * way), (p + 7, q + 16 * way))
            draw.line(branch, fill=_DARK, width=3)
    else:
        r = 22 * scale
        _disc(draw, x, y, r + 1, fill=(60, 62, 66))
        _disc(draw, x, y, r - 1, fill=(236, 238, 242))
        _disc(draw, x, y, r - 7, fill=(24, 24, 27))
        for gap in (9.5, 13.0, 16.5):
            _disc(draw, x + 1, y + 1, r - gap, outline=(150, 152, 156), width=1)


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
        shell = _RGB[("black", "red", "blue", "yellow")[int(rng.integers(4))]]
        for part, tone in ((1.0, _mix(shell, _DARK, 0.6)), (0.75, shell),
                           (0.2, _mix(shell, _LIGHT, 0.45))):  # fmt: skip
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
    _disc(pen, *half[-1], width / 2, fill=depth)
    mask = mask.filter(ImageFilter.BoxBlur(4 if shadow else 1))
    image.paste(_DARK if shadow else (92, 126, 158), (0, 0), mask.resize((SIZE, SIZE)))
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


def _degrade(image: Image.Image, rng: np.random.Generator, s: float) -> Image.Image:
    """What a production line does to an image; every effect grows with s."""
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
