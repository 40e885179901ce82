"""Counts what the gate accepts per kind of question and per slice, and how much of it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Store
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.model.slicing import SliceField
from probes.stats.wilson import wilson_share
from probes.types import ConsistencyMode, FloatArray, Interval, Missing

PARTS: tuple[SliceField, ...] = ("kind", "slice")
"""Fields of the records by which answers are told apart."""


def accepted_table(
    store: Store,
    bundle: Bundle,
    rows: NDArray[np.bool_],
    risks: Mapping[ConsistencyMode, FloatArray],
) -> list[dict[str, Any]]:
    """Return a row per served self-consistency mode for all answers, each kind and each slice.

    Where certificates go by that field each part is judged by the certificate that serves it, else
    by the one of all slices together.

    Args:
        rows: of the test split, (n,).
        risks: :func:`probes.guarantee.composed.policy_risk` per mode, (n,).
    """
    table = []
    for mode in risks:
        served = mode in bundle.certificates or any(m == mode for m, _ in bundle.slice_certificates)
        for by, name, part in _parts(store, rows) if served else ():
            certificate = _serving(bundle, mode, by, name)
            threshold = -np.inf if certificate is None else certificate.threshold
            about = _judge(store, part, risks[mode] <= threshold)
            row = {"self_consistency": mode, "by": by, "name": name, **about}
            table.append({**row, "certificate": None if certificate is None else certificate.id})
    return table


def above_alpha(table: list[dict[str, Any]], alpha: float) -> list[dict[str, Any]]:
    """Return the rows whose accepted answers are wrong more often than alpha, beyond noise."""
    return [
        row for row in table if isinstance(row["error"], Interval) and row["error"].lower > alpha
    ]


def _parts(
    store: Store, rows: NDArray[np.bool_]
) -> Iterator[tuple[SliceField | None, str, NDArray[np.bool_]]]:
    """Yield all answers, then each value of a field that has several."""
    yield None, "all", rows
    for by in PARTS:
        names = np.array([getattr(record, by) for record in store.records], dtype=np.str_)
        found = np.unique(names[rows])
        for name in found if found.size > 1 else ():
            yield by, str(name), rows & (names == name)


def _serving(
    bundle: Bundle, mode: ConsistencyMode, by: SliceField | None, name: str
) -> Certificate | None:
    if by is None or bundle.slicing is None or bundle.slicing.by != by:
        return bundle.certificates.get(mode)
    return bundle.slice_certificates.get((mode, name))


def _judge(store: Store, part: NDArray[np.bool_], accepts: NDArray[np.bool_]) -> dict[str, Any]:
    accepted = part & accepts
    wrong: Interval | Missing = wilson_share(store.wrong[accepted], store.groups[accepted])
    return {
        "answers": int(part.sum()),
        "images": int(np.unique(store.groups[part]).size),
        "accepted": int(accepted.sum()),
        "wrong": int(store.wrong[accepted].sum()),
        "coverage": wilson_share(accepts[part], store.groups[part]),
        "error": wrong,
    }
