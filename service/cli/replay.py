"""``vlm-gate policy replay``: a window of the records under a candidate, before it decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.records import Day, open_records, utc

VERDICTS = ("accept", "escalate", "reject")


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
    from probes.types import Missing
    from service.gate.rules import load_rules
    from service.offline.replay import Replay, Share
    from service.offline.replay import replay as run_replay
    from service.records.listing import Filter
    from service.settings import load_settings

    def rate(share: Share) -> str:
        error = share.error
        if isinstance(error, Missing):
            return "-"
        return f"{error.estimate:.1%} ({error.lower:.1%} to {error.upper:.1%})"

    def print_replay(found: Replay) -> None:
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
            errors.add_row(name, *numbers, rate(share))
        console.print(errors)
        for reason, count in found.reasons.most_common():
            console.print(f"unknown: {count} ({reason.replace('_', ' ')})")
        console.print(f"{found.changed} decisions would change")

    with open_records() as store:
        settings = load_settings()
        served = read_bundle(settings.bundle)
        changed = {"bundle": bundle or settings.bundle, "policy": policy}
        shadow = {"shadow_bundle": None, "shadow_policy": None}
        candidate = load_rules(settings.model_copy(update={**changed, **shadow}))
        where = Filter(since=utc(since), until=utc(until))
        print_replay(run_replay(store, candidate, served, where))
