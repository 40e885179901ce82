"""Picks answers worth looking at: confident errors, and errors that only the gate caught."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Store
from probes.judge.side_by_side import BASELINE, Judged
from probes.types import FloatArray

EXAMPLES = 4
"""Most examples of each group."""


def pick_examples(
    store: Store, judged: Judged, accepted: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Pick wrong answers of the test split, at most one per image and group.

    ``confident_error``: the wrong answers of lowest risk, which the gate lets through first.
    ``rescued``: wrong answers that the gate does not accept, though token confidence alone would,
    were it to accept as many answers; the most confident first. Where the gate accepts nothing,
    both are compared at half of the answers.

    Args:
        accepted: which of the judged answers the gate accepts, (judged,).
    """
    if BASELINE not in judged.scores:
        return []
    rows, wrong = np.flatnonzero(judged.rows), store.wrong[judged.rows]
    risk, doubt = judged.scores["risk"], judged.scores[BASELINE]
    kept = accepted if accepted.any() else risk <= np.median(risk)
    trusted = doubt <= np.sort(doubt)[int(kept.sum()) - 1]
    groups = {
        "confident_error": (wrong, risk),
        "rescued": (wrong & trusted & ~kept, doubt),
    }
    return [
        _described(store, rows[at], name, float(risk[at]), -float(doubt[at]), bool(accepted[at]))
        for name, (which, order) in groups.items()
        for at in _first_of_each_image(which, order, store.groups[judged.rows])
    ]


def _first_of_each_image(
    which: NDArray[np.bool_], order: FloatArray, images: NDArray[np.str_]
) -> list[int]:
    found: dict[str, int] = {}
    for at in np.argsort(order, kind="stable"):
        if which[at]:
            found.setdefault(str(images[at]), int(at))
        if len(found) == EXAMPLES:
            break
    return list(found.values())


def _described(
    store: Store, row: int, group: str, risk: float, mean_logprob: float, accepted: bool
) -> dict[str, Any]:
    record = store.records[row]
    return {
        "group": group,
        "id": record.id,
        "kind": record.kind,
        "question": record.question,
        "answer": record.answer,
        "references": list(record.references),
        "risk": risk,
        "mean_logprob": mean_logprob,
        "accepted": accepted,
    }
