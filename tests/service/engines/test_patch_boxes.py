from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

from probes.types import FloatArray, Missing
from service.engines.families import FAMILIES
from service.engines.patch_boxes import cropped_boxes, resized_boxes, unknown_boxes
from service.engines.processors import load_processor, process

MODELS = Path(__file__).parents[3] / "testbed" / "models"


def clip(**changes: object) -> SimpleNamespace:
    """A processor that scales the shortest edge to 100 and cuts out the middle."""
    settings = {
        "size": {"shortest_edge": 100},
        "crop_size": {"height": 100, "width": 100},
        "do_center_crop": True,
    }
    return SimpleNamespace(image_processor=SimpleNamespace(**{**settings, **changes}))


def test_the_whole_image_in_raster_order() -> None:
    boxes = resized_boxes(None, None, (20, 60), (2, 3))
    assert boxes[0].tolist() == [0, 0, 20, 10]
    assert boxes[1].tolist() == [20, 0, 40, 10]
    assert boxes[3].tolist() == [0, 10, 20, 20]
    assert boxes[-1].tolist() == [40, 10, 60, 20]


def test_a_wide_image_loses_its_sides() -> None:
    # 100 x 200, its middle 100 x 100 is seen: columns 50 to 150.
    boxes = cropped_boxes(None, clip(), (100, 200), (2, 2))
    assert not isinstance(boxes, Missing)
    assert boxes.tolist() == [[50, 0, 100, 50], [100, 0, 150, 50], [50, 50, 100, 100],
                              [100, 50, 150, 100]]  # fmt: skip


def test_a_tall_image_is_scaled() -> None:
    # 400 x 200 becomes 200 x 100; its rows 50 to 150 are rows 100 to 300 of the image.
    boxes = cropped_boxes(None, clip(), (400, 200), (1, 2))
    np.testing.assert_allclose(boxes, [[0, 100, 100, 300], [100, 100, 200, 300]])


def test_what_is_not_known_is_missing() -> None:
    unknown = Missing("unknown_image_geometry")
    assert unknown_boxes(None, None, (4, 4), (2, 2)) == unknown
    wide = clip(crop_size={"height": 100, "width": 200})
    assert cropped_boxes(None, wide, (4, 4), (2, 2)) == unknown


class Trained:
    """Processor and geometry of a trained model."""

    def __init__(self, name: str) -> None:
        (self.family,) = (each for each in FAMILIES if each.name == name)
        self.config: Any = AutoConfig.from_pretrained(MODELS / name)
        self.processor: Any = load_processor(str(MODELS / name))
        self.prompt = self.family.prompt(self.processor, "?")

    def look(self, image: Any) -> tuple[FloatArray, tuple[int, int]]:
        """Brightness of each image token's pixels, in the tokens' order; and their grid."""
        inputs = process(self.processor, image, self.prompt)
        tokens = int((inputs["input_ids"] == self.config.image_token_id).sum())
        grid = self.family.grid(self.config, inputs, tokens)
        assert grid is not None
        pixels = inputs["pixel_values"]
        if self.family.name == "qwen2vl":  # one row per patch, the four of a token together
            return pixels.view(tokens, -1).mean(1).numpy(), grid
        rows, columns = grid
        cells = pixels[0].view(3, rows, 16, columns, 16).mean((0, 2, 4))
        return cells.flatten().numpy(), grid

    def boxes(self, size: tuple[int, int], grid: tuple[int, int]) -> FloatArray:
        boxes = self.family.patch_boxes(self.config, self.processor, size, grid)
        assert not isinstance(boxes, Missing)
        return boxes


@pytest.fixture(scope="module", params=["llava", "paligemma", "qwen2vl"])
def trained(request: pytest.FixtureRequest) -> Trained:
    return Trained(str(request.param))


def test_by_hand(trained: Trained) -> None:
    """Of an image of 90 x 200."""
    _, grid = trained.look(np.zeros((90, 200, 3), np.uint8))
    boxes = trained.boxes((90, 200), grid)
    if trained.family.name == "llava":
        # 90 x 200 becomes 128 x 284, of which columns 78 to 206 are seen, 16 to a token.
        scale = 200 / 284
        assert grid == (8, 8)
        np.testing.assert_allclose(boxes[0], [78 * scale, 0, 94 * scale, 11.25])
        np.testing.assert_allclose(boxes[63], [190 * scale, 78.75, 206 * scale, 90])
    elif trained.family.name == "paligemma":
        assert grid == (8, 8)
        np.testing.assert_allclose(boxes[9], [25, 11.25, 50, 22.5])
    else:
        # 84 x 196 is the nearest in squares of 28.
        assert grid == (3, 7)
        np.testing.assert_allclose(boxes[8], [200 / 7, 30, 400 / 7, 60])


@pytest.mark.parametrize("size", [(90, 200), (300, 140), (224, 224)])
def test_what_is_painted_in_a_box_is_seen_by_its_token(
    trained: Trained, size: tuple[int, int]
) -> None:
    dark = np.zeros((*size, 3), np.uint8)
    before, grid = trained.look(dark)
    for token, box in enumerate(trained.boxes(size, grid)):
        left, top, right, bottom = np.rint(box).astype(int)
        image = dark.copy()
        image[top:bottom, left:right] = 255
        after, _ = trained.look(image)
        gain = after - before
        assert gain.argmax() == token
        assert gain[token] > 0.7 * gain.sum(), "and by hardly any other"
