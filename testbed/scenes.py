"""Inspection scenes: what is on a body and what is true of it (rendered by testbed.drawing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Domain = Literal["catalog", "line"]
Body = Literal["plate", "housing"]

GRID = 4
TYPES = ("screw", "washer", "hole", "label", "seal", "connector")
COLORS = ("red", "blue", "green", "yellow", "white", "black")
SCREW_COLORS = ("silver", "brass", "black")
DEFECTS = ("scratch", "dent", "stain", "crack", "missing screw", "tilted label")
FINISHES = ("steel", "anodised", "green paint", "beige plastic", "light grey")
DOMAINS: tuple[Domain, ...] = ("catalog", "line")
NO_DEFECT_RATE = 0.3
WORST_SEVERITY = 0.7

CELL_CLASSES: tuple[str, ...] = (
    "empty",
    *(f"{c} {t}" for t in TYPES if t not in ("screw", "hole") for c in COLORS),
    *(f"{c} screw" for c in SCREW_COLORS),
    "hole",
    *DEFECTS[:5],
    *(f"tilted {c} label" for c in COLORS),
)
_CLASS_INDEX = {name: i for i, name in enumerate(CELL_CLASSES)}

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


def scene_rng(seed: int, domain: Domain, purpose: int) -> np.random.Generator:
    """The random stream of one purpose (contents, severity, drawing, ...) of one scene."""
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
    rng = scene_rng(seed, domain, 101)
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
    """How hard the line degraded this image, 0 to WORST_SEVERITY; 0 for the catalog.

    Half of the images are nearly clean (below 0.18), as on a line that is looked after.
    """
    if scene.domain == "catalog":
        return 0.0
    return WORST_SEVERITY * float(scene_rng(scene.seed, scene.domain, 103).random()) ** 2
