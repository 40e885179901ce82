"""``vlm-gate certify --from-records``: a new certificate from answers that people judged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

from service.cli_errors import no_certificate
from service.cli_records import open_records, utc


def recertify(
    folder: Path,
    out: Path,
    since: datetime,
    until: datetime | None,
    *,
    alpha: float,
    valid_days: int,
) -> None:
    """Test a bundle on the records of the settings; write it with its one certificate."""
    from probes.bundle import Bundle
    from probes.certify import DELTA
    from probes.guarantee import NoCertificate
    from probes.recertify import certify_judged, with_certificate
    from service.recertify import gather

    now = datetime.now(UTC)
    with open_records() as store:
        bundle = Bundle.load(folder)
        found = gather(store, bundle, utc(since) or now, utc(until) or now)
        typer.echo(
            f"{len(found.risk)} answers with a risk of at most {found.limit:.4f}, "
            f"{found.wrong.sum()} wrong or not judged ({found.unjudged} not judged)"
        )
        certificate = certify_judged(
            bundle, found.risk, found.wrong, found.images, limit=found.limit,
            data=found.fingerprint, alpha=alpha, delta=DELTA, created=now, valid_days=valid_days,
        )  # fmt: skip
        if isinstance(certificate, NoCertificate):
            no_certificate(
                f"{certificate.reason.replace('_', ' ')} ({certificate.answers} answers, one per "
                "image); nothing is written; judge more of them, or train again"
            )
        certified = with_certificate(bundle, certificate, out)
    one = certified.certificates["never"]
    typer.echo(
        f"{one.id}: at most {one.alpha:.0%} of answers accepted at a risk of {one.threshold:.4f} "
        f"are wrong ({one.k} of {one.n}), in {out}; put it where VLM_GATE_BUNDLE points and "
        "POST /v1/bundle:reload"
    )
