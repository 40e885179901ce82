"""``vlm-gate recertify``: a new certificate from answers that people judged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from service.cli.records import Day, open_records, utc
from service.cli.told import no_certificate

Loosen = Annotated[
    bool, typer.Option("--loosen", help="recertify: take an alpha above the bundle's")
]
MostPerGroup = Annotated[
    int | None,
    typer.Option(help="answers of a group that count; by default as the data has them", min=1),
]
ValidDays = Annotated[int, typer.Option(help="days until it expires", min=1)]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(recertify)


def recertify(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle", file_okay=False)],
    out: Annotated[Path, typer.Option(help="new folder to write")],
    since: Day = None,
    until: Day = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="error rate among accepted answers; the bundle's", min=0.001, max=0.5),
    ] = None,
    loosen: Loosen = False,
    most_per_group: MostPerGroup = None,
    valid_days: ValidDays = 365,
) -> None:
    """Test a bundle that serves on what people said of its answers; write it anew.

    Fix the window (--since, --until) before you look at what is in it. Each new window spends from
    one delta: the first 80 % of it, each later one half of what is left.
    """
    from probes.guarantee.ledger import Ledger
    from probes.guarantee.recertify import certify_judged, with_certificate
    from probes.model.certificate import NoCertificate
    from probes.model.folder import read_bundle
    from service.offline.recertify import gather, terms
    from service.settings import load_settings

    if since is None:
        raise typer.BadParameter("give --since DAY: fix the window before you look at it")
    now, settings = datetime.now(UTC), load_settings()
    with open_records() as store:
        loaded = read_bundle(bundle)
        asked_since = utc(since) or now
        found = gather(
            store, loaded, asked_since, utc(until) or now,
            deadline_days=settings.audit_deadline_days, confirmed=settings.void_needs_second_word,
        )  # fmt: skip
        if found.since != asked_since:
            typer.echo(
                f"the window begins at {found.since.isoformat()}: audits before it voided a "
                "certificate of this bundle"
            )
        if found.unit == "image":
            typer.echo(
                "unit: image. Not every answer names its group, so each image is one; frames "
                "of one scene are then taken as independent"
            )
        typer.echo(
            f"{len(found.risk)} answers with a risk of at most {found.limit:.4f}, "
            f"{found.wrong.sum()} wrong or not judged ({found.unjudged} not judged)"
        )
        asked = terms(loaded, alpha, most_per_group, loosen=loosen)
        claim = {
            "step": "recertify", "bundle": loaded.id, "data": found.fingerprint,
            "alpha": asked.alpha, "delta": asked.delta, "most_per_group": asked.most,
        }  # fmt: skip
        ledger = Ledger(f"recertify:{loaded.id}", (settings.state_folder, settings.tries_folder))
        certificate = certify_judged(
            loaded, found.risk, found.wrong, found.groups, limit=found.limit,
            data=found.fingerprint, alpha=asked.alpha, delta=asked.delta,
            level=asked.delta * ledger.share(claim), most=asked.most, weight=found.weight,
            unit=found.unit,
            created=now, valid_days=valid_days,
        )  # fmt: skip
        if isinstance(certificate, NoCertificate):
            no_certificate(
                f"{certificate.told()} ({certificate.answers} answers); nothing is written; judge "
                "more of them, or train again"
            )
        certified = with_certificate(loaded, certificate, out)
    one = certified.certificates["never"]
    if certified.loosened_from is not None:
        typer.echo(f"loosened: the bundle promised at most {certified.loosened_from:.1%} before")
    typer.echo(
        f"{one.id}: at most {one.alpha:.1%} of answers accepted at a risk of {one.threshold:.4f} "
        f"are wrong ({one.k} of {one.n}, tested at {one.level:.4g} of delta {one.delta:g}), in "
        f"{out}; put it where VLM_GATE_BUNDLE points and POST /v1/bundle:reload"
    )
