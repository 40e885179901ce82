"""Questions about a scene, with every answer that counts as right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from probes.labels.rule import LabelRule
from testbed.scenes import (
    COLORS,
    DEFECTS,
    GRID,
    NO_DEFECT_RATE,
    SCREW_COLORS,
    TYPES,
    Part,
    Scene,
    cells_of,
    describe,
    make_scene,
    noun,
)

KINDS = ("presence", "attribute", "count", "relation", "defect", "open")
YES_NO_KINDS = frozenset(("presence", "relation", "defect"))
SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
CORNERS = {
    "top left": (0, 0),
    "top right": (0, GRID - 1),
    "bottom left": (GRID - 1, 0),
    "bottom right": (GRID - 1, GRID - 1),
}
OBJECTS: tuple[tuple[str, ...], ...] = (
    TYPES,
    tuple(
        f"{c} {t}" for t in TYPES if t != "hole" for c in (SCREW_COLORS if t == "screw" else COLORS)
    ),
)
STRATEGIES = ("random", "popular", "adversarial")
SHORTLIST = 3

T = TypeVar("T")
Rng = np.random.Generator


@dataclass(frozen=True)
class Question:
    """One question; `answers` are all the references, lower-case."""

    kind: str
    text: str
    answer: str
    answers: tuple[str, ...]
    strategy: str | None = None

    @property
    def rule(self) -> LabelRule:
        """How an answer is judged."""
        return "yes_no" if self.kind in YES_NO_KINDS else "match"


def _pick(rng: Rng, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _yes_no(kind: str, text: str, truth: bool, strategy: str | None = None) -> Question:
    answer = "yes" if truth else "no"
    return Question(kind, text, answer, (answer,), strategy)


def _names(scene: Scene) -> set[str]:
    return {p.type for p in scene.parts} | {noun(p) for p in scene.parts}


@lru_cache(maxsize=1)
def _statistics() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """How often objects, and pairs of objects, occur over a fixed sample of scenes."""
    single: Counter[str] = Counter()
    pair: Counter[tuple[str, str]] = Counter()
    for seed in range(1500):
        names = sorted(_names(make_scene(10_000_000 + seed, "catalog")))
        single.update(names)
        pair.update((a, b) for a in names for b in names if a != b)
    return single, pair


def _absent(scene: Scene, objects: Sequence[str], strategy: str, rng: Rng) -> str | None:
    present = _names(scene)
    absent = [o for o in objects if o not in present]
    if not absent or strategy == "random":
        return _pick(rng, absent) if absent else None
    single, pair = _statistics()
    if strategy == "popular":
        score = {o: float(single[o]) for o in absent}
    else:
        wrong_color = [o for o in absent if o.split()[-1] in present]
        if wrong_color and rng.random() < 0.5:
            return _pick(rng, wrong_color)
        score = {o: sum(pair[o, p] / single[p] for p in sorted(present)) for o in absent}
    return _pick(rng, sorted(absent, key=lambda o: (-score[o], o))[:SHORTLIST])


def _presence(scene: Scene, rng: Rng) -> Question | None:
    objects = OBJECTS[int(rng.random() < 0.6)]
    here = [o for o in objects if o in _names(scene)]
    truth = bool(rng.random() < 0.5)
    strategy = "positive" if truth else _pick(rng, STRATEGIES)
    thing = (_pick(rng, here) if here else None) if truth else _absent(
        scene, objects, strategy, rng
    )  # fmt: skip
    if thing is None:
        return None
    return _yes_no("presence", _is_there(thing, scene, rng), truth, strategy)


def _is_there(thing: str, scene: Scene, rng: Rng) -> str:
    return _pick(
        rng,
        (
            f"Is there a {thing}?",
            f"Is there a {thing} on the {scene.body}?",
            f"Do you see a {thing}?",
            f"Does the {scene.body} have a {thing}?",
        ),
    )


def _attribute(scene: Scene, rng: Rng) -> Question | None:
    number = Counter(p.type for p in scene.parts)
    single = [p for p in scene.parts if p.color and number[p.type] == 1]
    if not single:
        return None
    part = _pick(rng, single)
    text = _pick(
        rng,
        (
            f"What color is the {part.type}?",
            f"Which color does the {part.type} have?",
            f"What is the color of the {part.type}?",
        ),
    )
    color = str(part.color)
    return Question("attribute", text, color, (color,))


def _count(scene: Scene, rng: Rng) -> Question:
    number = Counter(p.type for p in scene.parts)
    seen = sorted({number[t] for t in TYPES} - {0})
    # Pick the answer first, so that one number does not take over.
    wanted = 0 if rng.random() < 0.15 else _pick(rng, seen)
    kind = _pick(rng, [t for t in TYPES if number[t] == wanted] or list(TYPES))
    text = _pick(
        rng,
        (
            f"How many {kind}s are there?",
            f"How many {kind}s are on the {scene.body}?",
            f"Count the {kind}s.",
        ),
    )
    answer = str(number[kind])
    return Question("count", text, answer, (answer,))


def referents(scene: Scene) -> dict[str, Part]:
    """Shortest phrase that names exactly one part, for every part that has one."""
    types = Counter(p.type for p in scene.parts)
    names = Counter(noun(p) for p in scene.parts)
    found: dict[str, Part] = {}
    for part in scene.parts:
        if types[part.type] == 1:
            found[f"the {part.type}"] = part
        elif names[noun(part)] == 1:
            found[f"the {noun(part)}"] = part
    return found


def _relation(scene: Scene, rng: Rng) -> Question | None:
    known = list(referents(scene).items())
    if len(known) < 2:
        return None
    first, second = (known[int(i)] for i in rng.permutation(len(known))[:2])
    (a_name, a), (b_name, b) = first, second
    true = [
        side
        for side, (dr, dc) in SIDES.items()
        if dr * (a.row - b.row) > 0 or dc * (a.col - b.col) > 0
    ]
    false = [
        side
        for side, (dr, dc) in SIDES.items()
        if dr * (a.row - b.row) < 0 or dc * (a.col - b.col) < 0
    ]
    truth = bool(rng.random() < 0.5)
    side = _pick(rng, true if truth else false)
    if a.color and rng.random() < 0.4:
        a_name = f"the {noun(a)}"
    text = _pick(
        rng,
        (
            f"Is {a_name} {side} {b_name}?",
            f"Does {a_name} sit {side} {b_name}?",
            f"Do you see {a_name} {side} {b_name}?",
        ),
    )
    return _yes_no("relation", text, truth)


def _defect(scene: Scene, rng: Rng) -> Question | None:
    here = [d.kind for d in scene.defects]
    labelled = any(p.type == "label" for p in scene.parts)
    absent = [k for k in DEFECTS if k not in here and (k != "tilted label" or labelled)]
    # Scenes without defects can only give "no", so the others give "yes" more often.
    truth = bool(here) and bool(rng.random() < 0.5 / (1 - NO_DEFECT_RATE))
    kind = _pick(rng, here if truth else absent)
    if kind == "missing screw":
        text = _pick(
            rng,
            (
                "Is a screw missing?",
                "Is there a missing screw?",
                f"Does the {scene.body} have a missing screw?",
            ),
        )
    elif kind == "tilted label":
        one = sum(p.type == "label" for p in scene.parts) == 1
        the = "the" if one else "a"
        text = _pick(rng, (f"Is {the} label tilted?", "Do you see a tilted label?"))
    else:
        text = _is_there(kind, scene, rng)
    return _yes_no("defect", text, truth)


def _phrase(kind: str, text: str, *answers: str) -> Question:
    bare = tuple(a.removeprefix("a ") for a in answers)
    return Question(kind, text, answers[0], tuple(dict.fromkeys(answers + bare)))


def _neighbour(scene: Scene, rng: Rng) -> Question | None:
    cells = cells_of(scene)
    options: list[tuple[str, str, Part]] = []
    for name, part in referents(scene).items():
        for side, (dr, dc) in SIDES.items():
            row, col = part.row + dr, part.col + dc
            while (row, col) not in cells and 0 <= row < GRID and 0 <= col < GRID:
                row, col = row + dr, col + dc
            next_one = cells.get((row, col))
            if isinstance(next_one, Part):
                options.append((name, side, next_one))
    if not options:
        return None
    # Screws are everywhere; do not let them be most of the answers.
    rare = [o for o in options if o[2].type != "screw"]
    name, side, found = _pick(rng, rare if rare and rng.random() < 0.5 else options)
    text = _pick(
        rng,
        (
            f"What is {side} {name}?",
            f"Which part is {side} {name}?",
            f"Which part comes {side} {name}?",
        ),
    )
    return _phrase("open", text, describe(found))


def _corner(scene: Scene, rng: Rng) -> Question | None:
    cells = cells_of(scene)
    full = [name for name, cell in CORNERS.items() if cell in cells]
    empty = [name for name in CORNERS if name not in full]
    names = empty if not full or (empty and rng.random() < 0.2) else full
    name = _pick(rng, names)
    text = _pick(
        rng,
        (
            f"What is in the {name} corner?",
            f"What do you see in the {name} corner?",
            f"What does the {name} corner hold?",
        ),
    )
    thing = cells.get(CORNERS[name])
    if thing is None:
        return Question("open", text, "nothing", ("nothing",))
    if isinstance(thing, Part) and thing.tilted:
        return _phrase("open", text, describe(thing), f"a tilted {noun(thing)}")
    return _phrase("open", text, describe(thing))


def _which_defect(scene: Scene, rng: Rng) -> Question | None:
    text = _pick(
        rng,
        (
            "What defect is there?",
            "Which defect do you see?",
            f"What defect does the {scene.body} have?",
        ),
    )
    if not scene.defects:
        return Question("open", text, "none", ("none",)) if rng.random() < 0.5 else None
    named = [describe(d) for d in scene.defects]
    bare = [d.kind for d in scene.defects]
    orders = [named, named[::-1], bare, bare[::-1]]
    answers = tuple(dict.fromkeys(" and ".join(o) for o in orders))
    return Question("open", text, answers[0], answers)


def _open(scene: Scene, rng: Rng) -> Question | None:
    u = rng.random()
    make = _neighbour if u < 0.5 else _corner if u < 0.78 else _which_defect
    return make(scene, rng) or _corner(scene, rng)


_MAKERS: dict[str, Callable[[Scene, Rng], Question | None]] = {
    "presence": _presence,
    "attribute": _attribute,
    "count": _count,
    "relation": _relation,
    "defect": _defect,
    "open": _open,
}


def ask(scene: Scene, rng: Rng, kinds: Sequence[str] | None = None, n: int = 3) -> list[Question]:
    """Up to n different questions; a kind comes again only after all the others."""
    pool = list(kinds or KINDS)
    asked: dict[str, Question] = {}
    for _ in range(2 + 4 * n):
        for i in rng.permutation(len(pool)):
            if len(asked) == n:
                return list(asked.values())
            question = _MAKERS[pool[int(i)]](scene, rng)
            if question is not None:
                asked.setdefault(question.text, question)
    return list(asked.values())
