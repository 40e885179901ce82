from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.engines.base import EngineError
from service.engines.families import (
    GENERIC,
    LLAVA,
    family_of,
    image_token_id,
    patch_grid,
    square_grid,
)


def config(**values: Any) -> Any:
    return SimpleNamespace(**{"model_type": "llava", "image_token_id": 3, **values})


def test_the_table_is_searched_by_model_type() -> None:
    assert family_of(config(), SimpleNamespace(chat_template=None)) is LLAVA


def test_any_checkpoint_with_image_token_and_template_is_generic() -> None:
    other = config(model_type="brand_new")
    assert family_of(other, SimpleNamespace(chat_template="{{ x }}")) is GENERIC
    with pytest.raises(EngineError, match="chat template"):
        family_of(other, SimpleNamespace(chat_template=None))


def test_a_text_model_is_refused() -> None:
    with pytest.raises(EngineError, match="declares no image token"):
        family_of(SimpleNamespace(model_type="llama"), SimpleNamespace(chat_template="x"))


def test_the_older_name_of_the_image_token() -> None:
    assert image_token_id(SimpleNamespace(model_type="llava", image_token_index=9)) == 9


@pytest.mark.parametrize(
    ("height", "width", "tokens", "grid"),
    [(128, 128, 64, (8, 8)), (64, 128, 32, (4, 8)), (128, 128, 65, None)],
)
def test_grid_of_patches(
    height: int, width: int, tokens: int, grid: tuple[int, int] | None
) -> None:
    vision = config(vision_config=SimpleNamespace(patch_size=16))
    inputs = {"pixel_values": np.zeros((1, 3, height, width))}
    assert patch_grid(vision, inputs, tokens) == grid


@pytest.mark.parametrize(("tokens", "grid"), [(49, (7, 7)), (50, None), (0, None)])
def test_grid_by_guess(tokens: int, grid: tuple[int, int] | None) -> None:
    assert square_grid(config(), {}, tokens) == grid
