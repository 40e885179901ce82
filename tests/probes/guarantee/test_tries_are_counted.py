"""Certifying from the command line spends from the data's delta, and says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from probes.guarantee.ledger import LEDGER
from probes.model.bundle import Bundle
from probes.model.folder import read_bundle
from service.cli import app


def certify(store: Path, bundle: Path, out: Path) -> tuple[Bundle, str]:
    done = CliRunner().invoke(app, ["certify", str(store), str(bundle), "--out", str(out)])
    assert done.exit_code in (0, 3), done.output  # 3: done, and nothing can be promised
    return read_bundle(out), done.output


def levels(bundle: Bundle) -> list[float]:
    return [attempt.outcome.level for attempt in bundle.attempts]


def test_each_seed_is_a_further_try_and_the_same_again_is_none(
    run: Any, seed_1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("VLM_GATE_TRIES_FOLDER", str(state))
    store = tmp_path / "store"
    # Without the tries of other tests on the shared run.
    shutil.copytree(run.root / "store", store, ignore=shutil.ignore_patterns(LEDGER))
    first, said = certify(store, run.root / "trained", tmp_path / "first")
    modes = len(first.attempts)
    assert f"{modes} claims were tested on these images" in said
    again, said = certify(store, run.root / "trained", tmp_path / "again")
    assert levels(again) == levels(first)
    assert f"{modes} claims were tested on these images" in said
    (store / LEDGER).unlink()  # the run is collected anew
    second, said = certify(store, seed_1, tmp_path / "second")
    assert f"{2 * modes} claims were tested on these images" in said
    assert "cannot be seen" in said
    assert len((state / LEDGER).read_text().splitlines()) == 2 * modes
    spent = [0.8, *(0.2 / 2**number for number in range(1, 2 * modes))]
    assert [*levels(first), *levels(second)] == pytest.approx([0.05 * one for one in spent])
