"""What a site needs around the service: ``vlm-gate fetch``, ``merge`` and ``plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probes.types import ConsistencyMode
from service.cli.told import told


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (fetch, merge, plan):
        app.command()(command)


def fetch(
    url: Annotated[str, typer.Argument(help="folder: https://, hf://, s3:// or a path")],
    out: Annotated[Path, typer.Option(help="folder to bring it to; what fits is kept")],
    sha256: Annotated[str, typer.Option(help="of the SHA256SUMS file in that folder")],
) -> None:
    """Bring a model or a bundle here and check every byte of it."""
    from service.offline.fetch import FetchError
    from service.offline.fetch import fetch as run_fetch

    with told(FetchError):
        count = run_fetch(url, out, sha256)
    typer.echo(f"{count} files fetched, all of {out} as SHA256SUMS says")


def merge(
    parts: Annotated[list[Path], typer.Argument(help="folders that collect --shard wrote")],
    out: Annotated[Path, typer.Option(help="new folder of the whole run")],
) -> None:
    """Put the parts that workers collected together into one run."""
    from probes.data.partition import merge as run_merge

    store = run_merge(parts, out)
    typer.echo(f"{len(store.records)} answers of {len(parts)} parts in {out}")


def plan(
    questions_per_second: Annotated[float, typer.Option(help="at the peak")],
    answers_per_second: Annotated[
        float, typer.Option(help="of one replica without self-consistency, as bench measured")
    ],
    questions_per_day: Annotated[
        float | None, typer.Option(help="by default, the peak for eight hours")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="what evaluate wrote; tells the accepted share")
    ] = None,
    accepted_share: Annotated[float | None, typer.Option(help="instead of --evaluation")] = None,
    self_consistency: Annotated[ConsistencyMode, typer.Option(help="of the policy")] = "never",
    sampled_share: Annotated[
        float | None, typer.Option(help="of auto: answers that are sampled; measured")
    ] = None,
    sampling_cost_ratio: Annotated[
        float | None, typer.Option(help="time of an answer with its samples over one without")
    ] = None,
    gpus_per_replica: Annotated[int, typer.Option(help="tensor parallel size")] = 1,
    utilisation: Annotated[float, typer.Option(help="of a replica at the peak")] = 0.7,
    audit_share: Annotated[float, typer.Option(help="VLM_GATE_AUDIT_RATE")] = 0.02,
    review_seconds: Annotated[float, typer.Option(help="a person's time for one answer")] = 20.0,
    reviewer_hours_per_day: Annotated[float, typer.Option(help="of one reviewer")] = 6.0,
) -> None:
    """How many GPUs and reviewers a site needs."""
    from service.offline.plan import Demand, PlanError, accepted_share_of
    from service.offline.plan import plan as run_plan

    with told(PlanError):
        if accepted_share is None:
            if evaluation is None:
                raise PlanError("accepted-share: give it, or --evaluation with a report's folder")
            accepted_share = accepted_share_of(evaluation, self_consistency)
        if self_consistency == "never":
            sampled_share, sampling_cost_ratio = 0.0, 1.0
        elif self_consistency == "always":
            sampled_share = 1.0
        elif sampled_share is None:
            raise PlanError("sampled-share: give it, for auto samples some answers only")
        if sampling_cost_ratio is None:
            raise PlanError("sampling-cost-ratio: give it, as measured for your model")
        found = run_plan(
            Demand(
                questions_per_second=questions_per_second,
                questions_per_day=questions_per_day or questions_per_second * 8 * 3600,
                answers_per_second=answers_per_second,
                accepted_share=accepted_share,
                gpus_per_replica=gpus_per_replica,
                sampling_cost_ratio=sampling_cost_ratio,
                sampled_share=sampled_share,
                utilisation=utilisation,
                audit_share=audit_share,
                review_seconds=review_seconds,
                reviewer_hours_per_day=reviewer_hours_per_day,
            )
        )
    typer.echo(f"replicas              {found.replicas} ({found.gpus} GPUs)")
    typer.echo(f"answers/s per replica {found.answers_per_second_per_replica:.1f} as planned")
    typer.echo(f"reviews per day       {found.reviews_per_day:,.0f}")
    typer.echo(f"reviewers             {found.reviewers}")
    typer.echo(f"questions/reviewer    {found.questions_per_day_per_reviewer:,.0f} a day")
