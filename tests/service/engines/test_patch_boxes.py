from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from probes.types import Missing
from service.engines.patch_boxes import cropped_boxes, resized_boxes, unknown_boxes


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
