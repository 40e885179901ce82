"""Effective reliability Phi of every signal, its thresholds taken from the calibration split.

Whitehead et al. 2022 (arXiv 2204.13631), equation 4: an accepted answer earns 1 when right and -c
when wrong, the others 0.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

from probes.data.store import Store
from probes.judge.side_by_side import Judged
from probes.stats.bootstrap import Metric, cluster_bootstrap
from probes.stats.metrics import effective_reliability, reliability_threshold

COSTS = (1, 10, 100)
"""What a wrong answer costs, in right ones."""

Thresholds: TypeAlias = Mapping[str, Mapping[int, float | None]]
"""Signal name -> cost -> risk up to which answers are accepted; None accepts none."""


def reliability_thresholds(store: Store, calibration: Judged) -> Thresholds:
    """The best threshold of every signal and cost; none where no answer has every signal."""
    wrong = store.wrong[calibration.rows]
    if not wrong.size:
        return {}
    return {
        name: {cost: reliability_threshold(score, wrong, cost=cost) for cost in COSTS}
        for name, score in calibration.scores.items()
    }


def reliability_table(
    store: Store, judged: Judged, thresholds: Thresholds, resamples: int
) -> dict[str, dict[str, Any]]:
    """Signal name -> ``phi_<cost>`` -> interval, for the signals that have thresholds."""
    wrong, groups = store.wrong[judged.rows], store.groups[judged.rows]
    table: dict[str, dict[str, Any]] = {}
    for name, score in judged.scores.items():
        if name not in thresholds:
            continue
        metrics: dict[str, Metric] = {
            f"phi_{cost}": functools.partial(effective_reliability, cost=cost, threshold=threshold)
            for cost, threshold in thresholds[name].items()
        }
        found = cluster_bootstrap(metrics, {name: score}, wrong, groups, resamples=resamples)
        table[name] = dict(found[name])
    return table
