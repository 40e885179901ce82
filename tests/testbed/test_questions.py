"""Questions: the answers are true, the kinds are all there, yes and no are even."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from testbed import questions as qs
from testbed import scenes as sc

SCENES = [sc.make_scene(seed, "catalog") for seed in range(1000)]


def every(n: int, *kinds: str) -> list[tuple[sc.Scene, qs.Question]]:
    rng = np.random.default_rng(0)
    return [(s, q) for s in SCENES for q in qs.ask(s, rng, kinds or None, n)]


MIXED = every(3)


def test_every_kind_appears_and_texts_differ() -> None:
    assert {q.kind for _, q in MIXED} == set(qs.KINDS)
    assert len(MIXED) == 3 * len(SCENES)
    texts = Counter((s.seed, q.text) for s, q in MIXED)
    assert max(texts.values()) == 1


@pytest.mark.parametrize("kind", ["presence", "relation", "defect"])
def test_yes_and_no_are_even(kind: str) -> None:
    answers = Counter(q.answer for _, q in every(1, kind))
    assert set(answers) == {"yes", "no"}
    assert 0.45 < answers["yes"] / answers.total() < 0.55


def test_answers_are_plain_lower_case() -> None:
    for _, q in MIXED:
        assert q.answer in q.answers
        for answer in q.answers:
            assert re.fullmatch(r"[a-z0-9 ]+", answer)


def test_presence_is_true() -> None:
    seen = set()
    for scene, q in every(1, "presence"):
        match = re.search(r"a ([a-z ]+?)( on the \w+)?\?$", q.text)
        assert match is not None
        thing = match[1]
        found = any(thing in (p.type, sc.noun(p)) for p in scene.parts)
        assert q.answer == ("yes" if found else "no")
        assert (q.strategy == "positive") == found
        seen.add(q.strategy)
    assert seen == {"positive", *qs.STRATEGIES}


def test_counts_and_colors_are_true() -> None:
    for scene, q in every(2, "count", "attribute"):
        kind = next(t for t in sc.TYPES if re.search(rf"\b{t}s?\b", q.text))
        parts = [p for p in scene.parts if p.type == kind]
        if q.kind == "count":
            assert q.answer == str(len(parts))
        else:
            assert [p.color for p in parts] == [q.answer]


def named(scene: sc.Scene, phrase: str) -> sc.Part:
    """The one part that a phrase without article means."""
    found = [p for p in scene.parts if phrase in (p.type, sc.noun(p))]
    assert len(found) == 1
    return found[0]


def test_relations_are_true_and_referents_unique() -> None:
    for scene, q in every(1, "relation"):
        match = re.search(r"the (.+?) (?:sit )?(left of|right of|above|below) the (.+)\?", q.text)
        assert match is not None
        a, b = named(scene, match[1]), named(scene, match[3])
        dr, dc = qs.SIDES[match[2]]
        holds = dr * (a.row - b.row) > 0 or dc * (a.col - b.col) > 0
        assert q.answer == ("yes" if holds else "no")


def test_defects_are_true() -> None:
    for scene, q in every(1, "defect"):
        text = q.text.replace("a screw missing", "a missing screw")
        kind = next(k for k in sc.DEFECTS if set(k.split()) <= set(re.findall(r"\w+", text)))
        assert q.answer == ("yes" if kind in {d.kind for d in scene.defects} else "no")


def test_open_answers_are_true() -> None:
    total, nothing = 0, 0
    for scene, q in every(2, "open"):
        cells = sc.cells_of(scene)
        side = re.search(r"(left of|right of|above|below) the (.+?)\?", q.text)
        corner = re.search(r"the (top|bottom) (left|right) corner", q.text)
        if side:
            part = named(scene, side[2])
            dr, dc = qs.SIDES[side[1]]
            line = [(part.row + k * dr, part.col + k * dc) for k in (1, 2, 3)]
            assert q.answer == sc.describe(next(cells[c] for c in line if c in cells))
        elif corner:
            cell = (0 if corner[1] == "top" else 3, 0 if corner[2] == "left" else 3)
            assert q.answer == (sc.describe(cells[cell]) if cell in cells else "nothing")
            total, nothing = total + 1, nothing + (q.answer == "nothing")
        else:
            kinds = [sc.describe(d) for d in scene.defects]
            assert q.answer == (" and ".join(kinds) or "none")
            assert " and ".join(kinds[::-1]) in (*q.answers, "")
    assert nothing / total < 0.3


def test_adversarial_negatives_are_harder_than_random_ones() -> None:
    _, pair = qs._statistics()
    score: dict[str | None, list[float]] = {}
    for scene, q in every(1, "presence"):
        thing = next((o for o in (*qs.OBJECTS[1], *qs.OBJECTS[0]) if o in q.text), "")
        here = {p.type for p in scene.parts}
        score.setdefault(q.strategy, []).append(sum(pair[thing, h] for h in here))
    assert np.mean(score["adversarial"]) > np.mean(score["random"])
