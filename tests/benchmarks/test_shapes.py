"""A toy's image features are as wide as its decoder, as the families state it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.shapes import SHAPES, TOY, write_shape

WIDTHS = {
    "llava-1.5-7b": (("text_config", "hidden_size"),),  # the projector takes the decoder's
    "qwen2-vl-7b": (("hidden_size",), ("vision_config", "hidden_size")),
    "paligemma-3b": (
        ("hidden_size",),
        ("projection_dim",),
        ("text_config", "hidden_size"),
        ("vision_config", "projection_dim"),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("toy", [False, True])
def test_image_features_are_as_wide_as_the_decoder(name: str, toy: bool, tmp_path: Path) -> None:
    config = json.loads((write_shape(name, tmp_path, toy=toy) / "config.json").read_text())
    width = TOY["hidden_size"] if toy else SHAPES[name].text["hidden_size"]
    for path in WIDTHS[name]:
        found = config
        for key in path:
            found = found[key]
        assert found == width, path
