"""The recipe at toy size: it runs, what it saves loads as checkpoints do, it is judged."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from testbed.card import card, judge, read_log
from testbed.corpus import build_corpus, render_into
from testbed.families import FAMILIES
from testbed.scenes import make_scene
from testbed.train import Recipe, train
from testbed.turns import Mix, TurnStream, pack_turns, side_turns

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_recipe_trains_saves_and_is_judged(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    recipe = Recipe(
        minutes=0.03,
        scenes=32,
        batch=2,
        tower_batch=4,
        tower_share=0.3,
        evaluate_scenes=2,
        looks=1,
        mix=Mix(2, 2, 2, 2),
    )
    train(family, recipe, tmp_path / name, CPU)
    log = read_log(tmp_path / name)
    assert log[0]["stage"] == "start"
    assert "accuracy" in log[-1]
    text = card(family, log, judge(family, tmp_path / name, 2, CPU))
    assert f"{log[-1]['step']} steps of 2 images" in text
    assert "| relation |" in text


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


TURNS = [([*letters("a?b"), 1], 2), ([*letters("c?de"), 1], 2)]


def test_packed_turns_keep_their_own_positions_and_answers() -> None:
    packed = pack_turns([TURNS], 0, 64)
    for number, (ids, prompt) in enumerate(TURNS, start=1):
        here = packed.segments[0] == number
        assert packed.tokens[0][here].tolist() == ids
        assert packed.positions[0][here].tolist() == list(range(len(ids)))
        assert packed.prompts[0][here].tolist() == [True] * prompt + [False] * (len(ids) - prompt)
        # Targets stand one before the answer's tokens and its end.
        assert packed.targets[0][here].sum() == len(ids) - prompt
    assert not packed.targets[0][packed.segments[0] == 0].any()


def test_turns_apart_have_a_row_each_and_know_their_image() -> None:
    packed = pack_turns([TURNS, TURNS[:1]], 0, 8, apart=True)
    assert packed.owners.tolist() == [0, 0, 1]
    assert packed.segments.max(1).tolist() == [1, 2, 1]
    assert packed.tokens[1][:5].tolist() == TURNS[1][0]


def test_a_turn_that_does_not_fit_is_left_out() -> None:
    turns = [([5] * 6, 2), ([6] * 9, 2), ([7] * 4, 1)]
    packed = pack_turns([turns], 0, 12)
    assert packed.tokens[0].tolist() == [5] * 6 + [7] * 4 + [0] * 2
    assert packed.segments[0].tolist() == [1] * 6 + [3] * 4 + [0] * 2
    assert pack_turns([turns], 0, 8, apart=True).segments[:, 0].tolist() == [1, 3]


def test_sides_are_true() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for seed in range(200):
        scene = make_scene(seed, "catalog")
        by_name = {f"the {p.type}": p for p in scene.parts}
        kinds = [p.type for p in scene.parts]
        for question, answer in side_turns(scene, rng, 3):
            one, _, other = question.removeprefix("Where is ").removesuffix("?").partition(" from ")
            seen.add(answer)
            if any(name not in by_name or kinds.count(name[4:]) > 1 for name in (one, other)):
                continue
            a, b = by_name[one], by_name[other]
            assert ("above" in answer) == (a.row < b.row)
            assert ("below" in answer) == (a.row > b.row)
            assert ("left" in answer) == (a.col < b.col)
            assert ("right" in answer) == (a.col > b.col)
    assert len(seen) == 8


def test_the_stream_has_new_questions_on_the_same_images() -> None:
    encoder_calls = []

    def encode(pairs: object) -> object:
        encoder_calls.append(pairs)
        return pairs

    stream = TurnStream(range(6), "catalog", encode, 3, Mix(2, 1, 1, 1), seed=1)  # type: ignore[arg-type]
    batches = list(islice(iter(stream), 4))
    assert sorted(np.concatenate([rows for rows, _ in batches[:2]])) == list(range(6))
    assert encoder_calls[:2] != encoder_calls[2:]


def test_scenes_are_rendered_once_at_every_size(tmp_path: Path) -> None:
    render_into(tmp_path, range(3, 6), "line", [32, 48])
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    cached = build_corpus(range(3, 6), "line", 48, tmp_path)
    assert np.array_equal(cached.pixels, build_corpus(range(3, 6), "line", 48).pixels)
    assert files == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
