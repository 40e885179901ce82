"""The table of probes: what was tried, what is shipped, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.data.blank_run import blank_rows
from probes.data.splits import splits_of
from probes.data.store import Store, Writer
from probes.errors import StoreError
from probes.fit import challengers
from probes.fit.challengers import choose_probe
from probes.fit.layers import Candidate, ProbeCandidate, fit_layers
from probes.fit.linear import Standardised, fit_linear_probe
from probes.fit.train import train

SHARES = {"fit": 0.15, "select": 0.27, "calibrate": 0.4, "test": 0.18}


def test_the_table_is_in_the_bundle_simplest_first(run: Any) -> None:
    table = run.trained.training["probe_models"]
    assert [row["name"] for row in table] == ["l2", "l1", "blank", "ensemble", "mlp"]
    assert [row["servable"] for row in table] == [True, True, True, False, False]
    assert sum(row["chosen"] for row in table) == 1
    blank = table[2]
    assert blank["auroc"] == blank["best_ahead_by"] == {"missing": "no_blank_run"}
    chosen = next(row for row in table if row["chosen"])
    assert chosen["best_ahead_by"]["lower"] <= 0
    simpler = table[: table.index(chosen)]
    assert all(row["best_ahead_by"]["lower"] > 0 for row in simpler)


def made_up(store: Store, out: Path, image: Any, seen: np.ndarray, wrong: np.ndarray) -> Store:
    """States whose first column is ``seen`` and the rest noise, each row its own image."""
    rng = np.random.default_rng(1)
    records = [
        replace(record, wrong=bool(one)) for record, one in zip(store.records, wrong, strict=True)
    ]
    hidden = {}
    for place in store.setup.readouts:
        noise = rng.normal(size=(len(records), 4))
        noise[:, : seen.shape[1]] = seen
        hidden[place] = noise.astype(np.float16)
    writer = Writer(out, replace(store.setup, image=image))
    writer.append(records, hidden, store.arrays, {})
    return writer.finish()


def test_pairs_with_blank_images_turn_the_probe_to_what_the_image_tells(
    run: Any, tmp_path: Path
) -> None:
    """Column 0 tells of the question, with and without the image; column 1 of the image alone."""
    rng = np.random.default_rng(3)
    count = len(run.store.records)
    question, image = rng.normal(size=(2, count))
    wrong = rng.random(count) < 1 / (1 + np.exp(1 - question - image))
    real = made_up(run.store, tmp_path / "real", "real", np.column_stack([question, image]), wrong)
    gone = np.column_stack([question, np.full(count, 3.0)])
    blank = made_up(run.store, tmp_path / "blank", "blank", gone, wrong)
    bundle = train(real, tmp_path / "bundle", shares=SHARES, blank=blank)  # type: ignore[arg-type]
    row = next(r for r in bundle.training["probe_models"] if r["name"] == "blank")
    assert row["auroc"] > 0.7
    assert bundle.training["blank_run"] == blank.fingerprint
    splits = splits_of(real, bundle)
    fit, select = splits == "fit", splits == "select"
    candidates = fit_layers(real, fit, select)
    plain = candidates[0].probe
    entry = challengers._fit_with_blank(real, candidates, fit, select, blank)
    assert entry.probe is not None
    taught = entry.probe.weights / np.linalg.norm(entry.probe.weights)
    untaught = plain.weights / np.linalg.norm(plain.weights)
    assert taught[1] > untaught[1]  # more of the image


def test_the_blank_run_must_fit(run: Any, tmp_path: Path) -> None:
    place = run.store.setup.readouts[0]
    with pytest.raises(StoreError, match="shows real images"):
        blank_rows(run.store, run.store, place)


def test_where_only_an_mlp_sees_it_a_linear_probe_ships_and_the_table_says_so(
    run: Any, tmp_path: Path
) -> None:
    """Wrong where two columns have the same sign, which no line tells."""
    rng = np.random.default_rng(4)
    count = len(run.store.records)
    first, second = rng.normal(size=(2, count))
    wrong = first * second > 0
    store = made_up(run.store, tmp_path / "store", "real", np.column_stack([first, second]), wrong)
    fit = np.arange(count) % 5 < 3
    select = ~fit
    hidden = store.hidden((2, "prompt_last"))
    probe = fit_linear_probe(
        hidden[fit], wrong[fit], layer=2, position="prompt_last", regularisation=0.1
    )
    logits = probe.logit(probe.project(hidden[select]))
    candidate = Candidate(ProbeCandidate(2, "prompt_last", 0.1, 0.5), probe, logits)
    shipped, table = choose_probe(store, [candidate], fit, select, blank=None, seed=0)
    rows = {row.name: row for row in table}
    assert rows["mlp"].auroc > 0.8  # type: ignore[operator]
    assert not rows["mlp"].chosen
    chosen = next(row for row in table if row.chosen)
    assert chosen.servable
    assert chosen.best_ahead_by.lower > 0  # type: ignore[union-attr]
    assert shipped.weights.shape == (4,)


def test_standardised_states_have_mean_0_and_deviation_1() -> None:
    hidden = np.random.default_rng(0).normal(5, [1, 2, 0], size=(50, 3)).astype(np.float16)
    known = Standardised.of(hidden)
    np.testing.assert_allclose(known.table.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(known.table.std(axis=0), [1, 1, 0], atol=1e-5)
    np.testing.assert_array_equal(known.apply(hidden), known.table)
