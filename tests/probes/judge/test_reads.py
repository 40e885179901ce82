"""An evaluation reads each hidden-state matrix from disk once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probes.data.store import Place, Store
from probes.judge.evaluate import evaluate


def test_an_evaluation_reads_each_matrix_once(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[int, str] = {}
    reads: Counter[tuple[str, Place]] = Counter()
    read = Store.hidden

    def counted(store: Store, place: Place) -> NDArray[np.float16]:
        reads[names[id(store)], place] += 1
        return read(store, place)

    monkeypatch.setattr(Store, "hidden", counted)
    elsewhere = tuple(replace(one, image_hash=f"f{one.image_hash}") for one in run.store.records)
    far = replace(run.store, records=elsewhere)
    blank = replace(run.store, setup=replace(run.store.setup, image="blank"))
    names |= {id(run.store): "home", id(far): "far", id(blank): "blank"}
    evaluation = evaluate(
        run.store, run.certified, tmp_path / "out", domains={"far": far}, blank=blank, resamples=20
    )
    own = (run.certified.probe.layer, run.certified.probe.position)
    everywhere = [("home", place) for place in run.store.setup.readouts]
    assert reads == Counter([*everywhere, ("far", own), ("blank", own)])
    assert len(evaluation["probe_per_layer"]) == len(everywhere)
    assert "estimate" in evaluation["cross_domain"]["far"]["trained_there"]["judged_here"]
    assert "estimate" in evaluation["controls"]["blank_image"]["auroc"]
