"""What the question's kind adds to the fusion: AUROC and coverage, over splits of a run.

    python -m benchmarks.fusion_by_kind RUN BUNDLE [--splits 20] [--out FILE]

The probe is the bundle's, so the run must be of other images than those it was trained on. Per
split by image the kinds are learned on ``fit``, both fusions on ``select``, and judged on the rest,
which each split draws anew from one run: the splits overlap, so the means have no interval.
Coverage is the most that can be accepted with a share alpha of it wrong (the oracle's).
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from probes.data.columns import measure_columns
from probes.data.splits import split_by_image
from probes.data.store import Store, load
from probes.errors import TrainingError
from probes.fit.fusion import BY_KIND, CANDIDATES, by_kind, choose_fusion, fit_risk_model
from probes.fit.question_kinds import fit_kinds
from probes.fit.train import SHARES
from probes.model.bundle import Bundle
from probes.model.folder import read_bundle
from probes.signals.question_kind import KindModel
from probes.stats import metrics
from probes.types import Missing

PLAIN = "probe_and_token_confidence"
ALPHAS = (0.05, 0.02)
RESAMPLES = 300


def compare(store: Store, bundle: Bundle, seed: int) -> dict[str, Any]:
    """One split: every number of both fusions, and which candidate training would choose."""
    splits = split_by_image([record.image_hash for record in store.records], SHARES, seed)
    kinds = _kinds(store, splits == "fit")
    columns = measure_columns(store, bundle.probe, kinds)
    features = {PLAIN: CANDIDATES[PLAIN], BY_KIND: by_kind(CANDIDATES[PLAIN], kinds.kinds)}
    known = columns.complete(features[BY_KIND])
    select, rest = (splits == "select") & known, np.isin(splits, ("calibrate", "test")) & known
    wrong, groups = store.wrong, store.groups
    found: dict[str, Any] = {}
    for name, names in features.items():
        chosen = columns.take(names, select)
        model, _ = fit_risk_model(chosen, names, wrong[select], groups[select], seed=seed)
        score = model.raw(columns.take(names, rest))
        judges = {"auroc": metrics.auroc} | {
            f"coverage_at_{alpha:g}": functools.partial(metrics.coverage_at_risk, level=alpha)
            for alpha in ALPHAS
        }
        values = {key: judge(score, wrong[rest]) for key, judge in judges.items()}
        found[name] = {k: v.reason if isinstance(v, Missing) else v for k, v in values.items()}
    chosen = columns.take(features[BY_KIND], select)
    _, tried = choose_fusion(
        chosen, wrong[select], groups[select], kinds=kinds.kinds, resamples=RESAMPLES, seed=seed
    )
    return found | {"chosen": next(row.name for row in tried if row.chosen)}


def _kinds(store: Store, rows: Any) -> KindModel:
    records = [store.records[row] for row in np.flatnonzero(rows)]
    kinds = fit_kinds([one.question for one in records], [one.kind for one in records])
    if isinstance(kinds, Missing):
        raise TrainingError(f"kinds: {kinds.reason}; give a run whose questions are of several")
    return kinds


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the splits, and of the paired differences the mean, least and largest."""
    summary: dict[str, Any] = {"splits": len(rows)}
    for key in rows[0][PLAIN]:
        plain, kinds = (np.array([row[name][key] for row in rows]) for name in (PLAIN, BY_KIND))
        added = kinds - plain
        summary[key] = {
            PLAIN: float(plain.mean()), BY_KIND: float(kinds.mean()), "added": float(added.mean()),
            "added_least": float(added.min()), "added_largest": float(added.max()),
        }  # fmt: skip
    summary["chosen"] = sum(row["chosen"] == BY_KIND for row in rows)
    return summary


def main() -> None:
    """Print the summary, or write it with every split's numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    store, bundle = load(options.run), read_bundle(options.bundle)
    rows = [compare(store, bundle, seed) for seed in range(options.splits)]
    found = {"model": bundle.model.name, "run": store.fingerprint, "bundle": bundle.id}
    found |= summarise(rows)
    print(json.dumps(found, indent=1))
    if options.out is not None:
        text = json.dumps({**found, "by_split": rows}, indent=1)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
