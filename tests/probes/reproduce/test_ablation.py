from __future__ import annotations

import numpy as np

from probes.model.probe import LinearProbe
from probes.reproduce.ablation import conditions

PROBE = LinearProbe(
    layer=2,
    position="answer_last",
    weights=np.array([0.1, -5.0, 0.3, 2.0, 0.0, -0.2, 0.4, 1.0, -0.6, 0.05, 0.0, 0.0, 3.0]),
    intercept=0.0,
    mean=np.arange(13.0),
    scale=np.ones(13),
    components=np.eye(13)[:2],
)


def test_top_neurons_by_weight_and_as_many_random_ones() -> None:
    found = conditions(PROBE, draws=3)
    top = {(one.held, len(one.neurons)): one.neurons for one in found if one.chosen == "top"}
    assert top == {
        ("zero", 5): (1, 3, 7, 8, 12),
        ("mean", 5): (1, 3, 7, 8, 12),
        ("zero", 6): (1, 3, 6, 7, 8, 12),
        ("mean", 6): (1, 3, 6, 7, 8, 12),
    }
    random = [one for one in found if one.chosen == "random"]
    assert len(random) == 2 * 3 * 2
    for one in random:
        assert len(set(one.neurons)) == len(one.neurons) in (5, 6)
        assert set(one.neurons) <= set(range(13))
    assert len({one.neurons for one in random}) > 3


def test_the_same_seed_draws_the_same() -> None:
    assert conditions(PROBE, 3, seed=4) == conditions(PROBE, 3, seed=4)
    assert conditions(PROBE, 3, seed=4) != conditions(PROBE, 3, seed=5)
    assert conditions(PROBE, 2, seed=4) == tuple(
        one for one in conditions(PROBE, 3, seed=4) if one.draw < 2
    )
