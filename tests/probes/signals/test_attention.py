import math

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from probes.signals.attention import (
    ATTENTION_METRICS,
    attention_table,
    concentration,
    dbscan_clusters,
    head_table,
    measure_attention,
    top_mask,
)
from probes.types import AttentionConcentration, AttentionMaps, FloatArray, Missing, Trace

# 30 % of 10 tokens are 3: the 8s and the 4. Two of them touch.
ROW = np.array([8.0, 8.0, 0.0, 0.0, 4.0, 0.0, 2.0, 0.0, 2.0, 0.0]) / 48


def trace(maps: AttentionMaps | Missing) -> Trace:
    return Trace(np.array([-0.1]), 0.1, 2.0, attention=maps)


def maps(prompt_last: FloatArray, answer_mean: FloatArray | Missing) -> AttentionMaps:
    return AttentionMaps(tuple(range(1, len(prompt_last) + 1)), prompt_last, answer_mean, (2, 5))


def test_concentration_by_hand() -> None:
    found = concentration(ROW, (2, 5))
    thirds, sixth, twelfth = 1 / 3, 1 / 6, 1 / 12
    entropy = -(2 * thirds * math.log(thirds) + sixth * math.log(sixth))
    entropy -= 2 * twelfth * math.log(twelfth)
    assert isinstance(found, AttentionConcentration)
    assert found.spatial_entropy == pytest.approx(entropy)
    assert found.top30_mass == pytest.approx(20 / 24)
    assert found.image_mass == pytest.approx(0.5)
    assert found.clusters == 2


def test_diagonal_neighbours_are_not_connected() -> None:
    row = np.zeros(9)
    row[[0, 4, 8]] = 0.1
    found = concentration(row, (3, 3))
    assert isinstance(found, AttentionConcentration)
    assert found.clusters == 3
    assert found.top30_mass == pytest.approx(1.0)


def test_uniform_attention_has_the_largest_entropy() -> None:
    found = concentration(np.full(64, 0.01), (8, 8))
    assert isinstance(found, AttentionConcentration)
    assert found.spatial_entropy == pytest.approx(math.log(64))
    assert found.top30_mass == pytest.approx(20 / 64)


def test_all_attention_on_one_token() -> None:
    found = concentration(np.eye(64)[5], (8, 8))
    assert isinstance(found, AttentionConcentration)
    assert (found.spatial_entropy, found.top30_mass, found.image_mass) == (0.0, 1.0, 1.0)


def test_ties_go_to_the_first_in_raster_order() -> None:
    np.testing.assert_array_equal(np.flatnonzero(top_mask(np.ones(10))), [0, 1, 2])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (np.ones(7), "grid_mismatch"),
        (np.zeros(10), "no_image_attention"),
        (np.full(10, np.nan), "not_finite"),
    ],
)
def test_what_cannot_be_measured(row: FloatArray, reason: str) -> None:
    assert concentration(row, (2, 5)) == Missing(reason)


def test_the_earlier_clusters_are_those_of_dbscan() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.random((200, 12, 12))
    smooth[-1] = 0.0
    smooth += np.roll(smooth, 1, 1) + np.roll(smooth, 1, 2)
    smooth[0, 0, 0] = 1e9  # one token far above the others is no cluster of three
    expected = []
    for one in smooth:
        tokens = np.argwhere(one >= np.quantile(one, 0.9))
        expected.append(int(DBSCAN(eps=1.5, min_samples=3).fit_predict(tokens).max()) + 1)
    assert dbscan_clusters(smooth.reshape(200, -1), (12, 12)).tolist() == expected
    assert len(set(expected)) > 3


def test_layers_are_averaged_before_measuring() -> None:
    rows = np.stack([ROW, np.roll(ROW, 3)])
    found = measure_attention(trace(maps(np.ones((2, 10)), rows)))
    assert found == concentration(rows.mean(axis=0), (2, 5))


def test_the_table_holds_every_layer_and_position() -> None:
    prompt, answer = np.stack([ROW, np.full(10, 0.05)]), np.stack([np.full(10, 0.02), ROW])
    table = attention_table(trace(maps(prompt, answer)))
    assert isinstance(table, np.ndarray)
    assert (table.shape, table.dtype) == ((2, 2, len(ATTENTION_METRICS)), np.float32)
    by_name = dict(zip(ATTENTION_METRICS, table[0, 0], strict=True))
    assert by_name["top30_mass"] == pytest.approx(20 / 24)
    assert by_name["clusters"] == 2
    np.testing.assert_array_equal(table[0, 0], table[1, 1])
    assert table[1, 0, ATTENTION_METRICS.index("image_mass")] == pytest.approx(0.2)


def test_many_rows_are_measured_as_each_alone() -> None:
    rows = np.random.default_rng(1).random((3, 64)) ** 4
    found = AttentionMaps((1, 2, 3), rows, rows[::-1], (8, 8))
    table = attention_table(trace(found))
    assert isinstance(table, np.ndarray)
    for at, row in enumerate(rows):
        alone = concentration(row, (8, 8))
        assert isinstance(alone, AttentionConcentration)
        np.testing.assert_allclose(
            table[0, at, :4],
            [alone.spatial_entropy, alone.top30_mass, alone.image_mass, alone.clusters],
            rtol=1e-6,
        )
        assert (table[0, at] == table[1, 2 - at]).all()


def test_heads_by_hand() -> None:
    rows = np.stack([np.stack([ROW, np.full(10, 0.05)])])
    table = head_table(AttentionMaps((4,), rows, rows[:, ::-1], (2, 5)))
    assert isinstance(table, np.ndarray)
    assert (table.shape, table.dtype) == ((2, 1, 2, 2), np.float16)
    np.testing.assert_allclose(table[0, 0, :, 1], [20 / 24, 0.3], atol=1e-3)
    assert table[0, 0, 1, 0] == pytest.approx(math.log(10), abs=1e-2)
    np.testing.assert_array_equal(table[0, 0], table[1, 0, ::-1])
    assert head_table(Missing("not_requested")) == Missing("not_requested")
    assert head_table(AttentionMaps((4,), rows, Missing("empty_answer"), (2, 5))) == Missing(
        "empty_answer"
    )


def test_the_reason_is_passed_on() -> None:
    no_answer = trace(maps(np.ones((1, 10)), Missing("empty_answer")))
    nothing = trace(Missing("not_requested"))
    for measured in (measure_attention, attention_table):
        assert measured(no_answer) == Missing("empty_answer")
        assert measured(nothing) == Missing("not_requested")
    dark = trace(maps(np.ones((1, 10)), np.zeros((1, 10))))
    assert attention_table(dark) == Missing("no_image_attention")
