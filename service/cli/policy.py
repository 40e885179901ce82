"""``vlm-gate policy``: thresholds tried on a run, and a candidate on recorded answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from probes.types import Missing
from service.cli.bundle import BundleFolder, StoreFolder
from service.cli.records import Day, open_records, utc

if TYPE_CHECKING:
    from service.offline.replay import Replay, Share

VERDICTS = ("accept", "escalate", "reject")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    policy = typer.Typer(no_args_is_help=True, help="Try out thresholds.")
    for command in (simulate, replay):
        policy.command()(command)
    app.add_typer(policy, name="policy")


def simulate(
    store: StoreFolder,
    bundle: BundleFolder,
    accept_below: Annotated[
        list[float] | None, typer.Option(help="threshold to try; may be repeated")
    ] = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(help="error rate to guarantee; may be repeated", min=0.001, max=0.5),
    ] = None,
    review_capacity: Annotated[
        list[float] | None,
        typer.Option(help="share that people can review; may be repeated", min=0.0, max=1.0),
    ] = None,
    delta: Annotated[
        float, typer.Option(help="chance that a guarantee is wrong", min=0.001, max=0.5)
    ] = 0.05,
) -> None:
    """Coverage, risk and escalations of thresholds, error rates or a review capacity.

    Shares are of the selection split, so that trying thresholds never uses up the test split. What
    is guaranteed is tested on the calibration split; each line holds by itself.
    """
    from probes.data.store import load
    from probes.guarantee.composed import modes_of
    from probes.guarantee.simulate import Simulator
    from probes.model.folder import read_bundle

    loaded, gate = load(store), read_bundle(bundle)
    table = Table(
        "self-consistency", "asked for", "accept below", "coverage", "wrong among accepted",
        "escalated", "rejected", "guaranteed at most",
    )  # fmt: skip
    thresholds = accept_below or ()
    levels = alpha or (() if accept_below or review_capacity else (0.2, 0.1, 0.05, 0.02, 0.01))
    for mode in modes_of(gate):
        simulator = Simulator(loaded, gate, mode)
        rows = [(f"threshold {one:g}", simulator.at_threshold(one)) for one in thresholds]
        rows += [(f"alpha {one:g}", simulator.at_alpha(one, delta)) for one in levels]
        rows += [
            (f"review {one:.0%}", simulator.at_capacity(one, delta))
            for one in review_capacity or ()
        ]
        for asked, row in rows:
            table.add_row(
                mode, asked, "-" if row.threshold is None else f"{row.threshold:.4f}",
                f"{row.coverage:.1%}", _share(row.risk), f"{row.escalated:.1%}",
                f"{row.rejected:.1%}", _share(row.guaranteed),
            )  # fmt: skip
    Console().print(table)


def replay(
    bundle: Annotated[
        Path | None, typer.Option(help="folder of the candidate bundle; left out, the served one")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="TOML file of the candidate policy; left out, the bundle's")
    ] = None,
    since: Day = None,
    until: Day = None,
) -> None:
    """What a candidate policy or bundle would have decided on recorded answers.

    Reads the records that the service's settings name. A bundle with another probe can only be
    replayed on answers that it was scored on as VLM_GATE_SHADOW_BUNDLE.
    """
    from probes.model.folder import read_bundle
    from service.gate.rules import load_rules
    from service.offline.replay import replay as run_replay
    from service.records.listing import Filter
    from service.settings import load_settings

    with open_records() as store:
        settings = load_settings()
        served = read_bundle(settings.bundle)
        changed = {"bundle": bundle or settings.bundle, "policy": policy}
        shadow = {"shadow_bundle": None, "shadow_policy": None}
        candidate = load_rules(settings.model_copy(update={**changed, **shadow}))
        where = Filter(since=utc(since), until=utc(until))
        _print_replay(run_replay(store, candidate, served, where))


def _print_replay(found: Replay) -> None:
    """Decisions then and now, and how often each kind of change was wrong."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table("recorded", *VERDICTS, "unknown", title=f"{found.answers} answers")
    for then in VERDICTS:
        counts = [found.decisions[then, now] for now in (*VERDICTS, "unknown")]
        table.add_row(then, *map(str, counts))
    console.print(table)
    errors = Table("", "answers", "judged", "wrong", "error rate (95 %)")
    for name, share in (
        ("accepted in both", found.both),
        ("no longer accepted", found.lost),
        ("newly accepted", found.won),
    ):
        numbers = (str(share.answers), str(share.judged), str(share.wrong))
        errors.add_row(name, *numbers, _rate(share))
    console.print(errors)
    for reason, count in found.reasons.most_common():
        console.print(f"unknown: {count} ({reason.replace('_', ' ')})")
    console.print(f"{found.changed} decisions would change")


def _rate(share: Share) -> str:
    error = share.error
    if isinstance(error, Missing):
        return "-"
    return f"{error.estimate:.1%} ({error.lower:.1%} to {error.upper:.1%})"


def _share(value: float | Missing) -> str:
    return value.reason if isinstance(value, Missing) else f"{value:.1%}"
