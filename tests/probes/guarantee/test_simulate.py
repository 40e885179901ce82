"""``policy simulate``: what a policy would do, and what is guaranteed of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from probes.data.columns import StoreView
from probes.data.splits import splits_of
from probes.guarantee.betting import bound_bet, try_threshold
from probes.guarantee.composed import (
    composed_reject,
    composed_risk,
    modes_of,
    policy_risk,
    stage_risks,
)
from probes.guarantee.simulate import Simulator
from probes.model.policy import Policy
from probes.types import CONSISTENCY_MODES, Missing
from service.cli import app


@pytest.mark.parametrize("mode", CONSISTENCY_MODES)
def test_every_answer_is_accepted_escalated_or_rejected(run: Any, mode: Any) -> None:
    bundle = replace(run.certified, policy=Policy(reject_above=0.6))
    row = Simulator(run.store, bundle, mode).at_threshold(0.1)
    assert row.coverage + row.escalated + row.rejected == pytest.approx(1)
    assert 0 < row.rejected < 0.5
    assert row.guaranteed == Missing("not_tested")
    rows = splits_of(run.store, bundle) == "select"
    accepted = policy_risk(stage_risks(StoreView(run.store, bundle)), bundle, mode)[rows] <= 0.1
    assert row.coverage == accepted.mean()
    assert row.risk == run.store.wrong[rows][accepted].mean()


def test_alpha_gives_the_threshold_of_the_certificate(run: Any) -> None:
    for mode, certificate in run.certified.certificates.items():
        row = Simulator(run.store, run.certified, mode).at_alpha(0.1, certificate.level)
        assert (row.threshold, row.guaranteed) == (certificate.threshold, 0.1)
    hopeless = Simulator(run.store, run.certified, "never").at_alpha(0.001, 0.05)
    assert (hopeless.threshold, hopeless.coverage) == (None, 0)
    assert hopeless.guaranteed == Missing("no_certificate")


def test_a_smaller_capacity_guarantees_less(run: Any) -> None:
    simulator = Simulator(run.store, run.certified, "never")
    rows = [simulator.at_capacity(share, 0.05) for share in (0.7, 0.5, 0.3)]
    bounds = []
    for share, row in zip((0.7, 0.5, 0.3), rows, strict=True):
        assert row.escalated <= share
        assert isinstance(row.guaranteed, float)
        assert isinstance(row.risk, float)
        bounds.append(row.guaranteed)
    assert bounds == sorted(bounds)
    impossible = simulator.at_capacity(0.0, 0.05)  # some answers are out of domain
    assert impossible.guaranteed == Missing("escalates_more")


def test_the_bound_is_the_error_rate_that_is_just_not_excluded(run: Any) -> None:
    simulator = Simulator(run.store, run.certified, "never")
    row = simulator.at_capacity(0.5, 0.05)
    tested, seen = simulator._calibration(), simulator._grouped(simulator._select)
    accepted, wrong = tested.sums(row.threshold)
    before = seen.sums(row.threshold)
    bet = bound_bet(*before, level=0.05, count=tested.count, most=3)
    p_value = try_threshold(tested, row.threshold, bet, row.guaranteed).p_value
    assert p_value == pytest.approx(0.05, abs=1e-6)
    assert wrong.sum() / accepted.sum() < row.guaranteed


@pytest.mark.parametrize("mode", CONSISTENCY_MODES)
def test_nothing_is_both_accepted_and_rejected(mode: Any) -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 300))
    first[:9], second[5:20] = np.inf, np.inf
    inside = rng.random(300) < 0.8
    for threshold in (-np.inf, 0.2, 0.5):
        accepted = composed_risk(first, second, inside, mode, 0.7) <= threshold
        thrown = composed_reject(first, second, inside, mode, 0.7, threshold)
        assert not (accepted & thrown).any()
        assert thrown.any()
        assert not thrown[~inside].any()


def test_the_command_prints_every_mode(run: Any) -> None:
    arguments = ["policy", "simulate", str(run.root / "store"), str(run.root / "certified")]
    options = ["--alpha", "0.1", "--review-capacity", "0.3", "--accept-below", "0.2"]
    done = CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for mode in modes_of(run.certified):
        assert mode in done.output
    for asked in ("alpha 0.1", "review 30%", "threshold 0.2"):
        assert asked in done.output
