import numpy as np
import pytest

from probes.data.splits import SPLITS, SplitName, split_by_image
from probes.errors import DataError

SHARES: dict[SplitName, float] = {"fit": 0.4, "select": 0.2, "calibrate": 0.2, "test": 0.2}
IMAGES = [f"image-{number}" for number in range(4000)]


def test_shares_are_kept() -> None:
    split = split_by_image(IMAGES, SHARES, seed=0)
    for name in SPLITS:
        assert (split == name).mean() == pytest.approx(SHARES[name], abs=0.03)


def test_all_questions_on_an_image_stay_together() -> None:
    repeated = IMAGES[:50] * 3
    split = split_by_image(repeated, SHARES, seed=0).reshape(3, 50)
    np.testing.assert_array_equal(split[0], split[1])
    np.testing.assert_array_equal(split[0], split[2])


def test_other_images_do_not_move_one() -> None:
    whole = split_by_image(IMAGES, SHARES, seed=0)
    np.testing.assert_array_equal(split_by_image(IMAGES[::-7], SHARES, seed=0), whole[::-7])


def test_the_seed_decides() -> None:
    first, again, other = (split_by_image(IMAGES, SHARES, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 0.6 < (first != other).mean() < 0.8  # 1 - sum of squared shares = 0.72


def test_a_split_without_a_share_stays_empty() -> None:
    split = split_by_image(IMAGES[:200], {"calibrate": 0.5, "test": 0.5}, seed=0)
    assert set(split.tolist()) == {"calibrate", "test"}


def test_no_answers() -> None:
    assert split_by_image([], SHARES, seed=0).shape == (0,)


@pytest.mark.parametrize(
    "shares", [{}, {"fit": 0.5}, {"fit": 1.5, "test": -0.5}, {"fit": 0.5, "train": 0.5}]
)
def test_shares_that_do_not_fit(shares: dict[SplitName, float]) -> None:
    with pytest.raises(DataError, match="shares"):
        split_by_image(IMAGES[:5], shares, seed=0)
