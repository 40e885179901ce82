"""The recipe at toy size: it runs, what it saves loads as checkpoints do, it is judged."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText

from testbed.card import card, judge, read_log
from testbed.corpus import encode_turn, pack_turns
from testbed.train import Recipe, train


def test_recipe_trains_saves_and_is_judged(tmp_path: Path) -> None:
    recipe = Recipe(
        minutes=0.08, scenes=32, batch=2, tower_batch=4, tower_share=0.2, evaluate_scenes=2
    )
    torch.manual_seed(0)
    train(recipe, tmp_path / "model", torch.device("cpu"), cache=None, start=None)
    _, loaded = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not loaded["missing_keys"]
    assert not loaded["unexpected_keys"]
    log = read_log(tmp_path / "model")
    assert log[0]["stage"] == "start"
    text = card(log, judge(tmp_path / "model", scenes=2))
    assert "| 1 | cpu |" in text
    assert "relation" in text


def test_packed_turns_keep_their_own_positions_and_answers() -> None:
    def encode(text: str) -> list[int]:
        return [ord(letter) for letter in text]

    turns = [encode_turn("a?", "b", encode, end=1), encode_turn("c?", "de", encode, end=1)]
    packed = pack_turns([turns], pad=0, length=64)
    for number, (ids, prompt) in enumerate(turns, start=1):
        here = packed.segments[0] == number
        assert packed.tokens[0][here].tolist() == ids
        assert packed.positions[0][here].tolist() == list(range(len(ids)))
        # Targets stand one before the answer's tokens and its end.
        assert packed.targets[0][here].sum() == len(ids) - prompt
    assert not packed.targets[0][packed.segments[0] == 0].any()


def test_a_turn_that_does_not_fit_is_left_out() -> None:
    turns = [([5] * 6, 2), ([6] * 9, 2), ([7] * 4, 1)]
    packed = pack_turns([turns], pad=0, length=12)
    assert packed.tokens[0].tolist() == [5] * 6 + [7] * 4 + [0] * 2
    assert packed.segments[0].tolist() == [1] * 6 + [3] * 4 + [0] * 2
