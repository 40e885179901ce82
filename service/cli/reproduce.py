"""``vlm-gate reproduce``: the papers' comparison on a model and a dataset, by one command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from probes.errors import DataError
from probes.types import GenerationSettings
from service.cli.collect import DatasetFormat
from service.cli.told import told

if TYPE_CHECKING:
    from rich.progress import TaskID

    from probes.reproduce.reproduce import Plan


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (reproduce, merge_reproductions):
        app.command()(command)


def reproduce(
    out: Annotated[Path, typer.Option(help="folder of the run; an unfinished one goes on")],
    data: Annotated[Path | None, typer.Option(help="file of labelled questions")] = None,
    model: Annotated[
        str | None, typer.Option(help="folder or hub name; VLM_GATE_MODEL if left out")
    ] = None,
    format: Annotated[
        DatasetFormat | None, typer.Option(help="of the data; told by its content if left out")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="folder, .tar or .parquet; beside the data if left out")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="of vqa; beside the questions if left out")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="most tokens of an answer", min=1)] = 16,
    samples: Annotated[int, typer.Option(help="answers sampled", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="of the split and all draws", min=0)] = 0,
    resamples: Annotated[int, typer.Option(help="of the bootstraps", min=20)] = 1000,
    ablation_answers: Annotated[
        int, typer.Option(help="test answers asked again with neurons ablated", min=1)
    ] = 1000,
    draws: Annotated[int, typer.Option(help="sets of random neurons", min=1)] = 5,
    batch: Annotated[int, typer.Option(help="most rows generated together", min=1)] = 64,
    in_flight: Annotated[int, typer.Option(help="questions asked at once", min=1)] = 256,
) -> None:
    """Compare every signal as the papers do, and mark their claims seen, not seen or opposite.

    Collects (real and blank images), trains, certifies, evaluates, masks, ablates; writes
    reproduction.json and reproduction.md. See docs/reproduce.md.
    """
    from probes.reproduce.reproduce import Plan
    from service.engines.base import EngineError
    from service.settings import SettingsError

    with told(EngineError, SettingsError):
        if data is None:
            raise DataError("data: give a file of labelled questions by --data")
        generation = GenerationSettings(max_tokens, samples)
        plan = Plan(
            generation, seed=seed, resamples=resamples, ablation_answers=ablation_answers,
            draws=draws, in_flight=in_flight,
        )  # fmt: skip
        asyncio.run(_run(data, format, images, annotations, model, batch, plan, out))


def merge_reproductions(
    files: Annotated[list[Path], typer.Argument(help="each a reproduction.json")],
    out: Annotated[Path, typer.Option(help="page to write")],
) -> None:
    """Make one page of several models' reproductions, side by side."""
    from probes.reproduce.reproduce import merge

    merge(files, out)
    typer.echo(f"{out}: {len(files)} reproductions")


async def _run(
    data: Path,
    format: DatasetFormat | None,
    images: Path | None,
    annotations: Path | None,
    model: str | None,
    batch: int,
    plan: Plan,
    out: Path,
) -> None:
    from probes.data.datasets import load_dataset
    from probes.reproduce.papers import verdict_counts
    from probes.reproduce.reproduce import PAGE
    from probes.reproduce.reproduce import reproduce as run
    from service.engines.build import collection_engine

    examples, problems = await asyncio.to_thread(
        load_dataset, data, format=format, images=images, annotations=annotations
    )
    for problem in problems:
        typer.echo(f"{data}: {problem}", err=True)
    engine = collection_engine(model, batch=batch, in_flight=plan.in_flight)
    await engine.start()
    try:
        with Steps() as steps:
            found = await run(
                examples, engine, out, plan=plan, created=datetime.now(UTC), step=steps.begin
            )
    finally:
        await engine.close()
    counts = verdict_counts(found["claims"])
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    typer.echo(f"{out / PAGE}: of the papers' claims {told}")


class Steps:
    """The steps so far, with their questions and their time, on stderr."""

    def __init__(self) -> None:
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._last: TaskID | None = None

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._progress.stop()

    def begin(self, name: str, total: int) -> Callable[[int], None]:
        """A step begins, and the one before it has ended."""
        self._end()
        self._last = task = self._progress.add_task(name, total=total or None)
        return lambda done: self._progress.advance(task, done)

    def _end(self) -> None:
        if self._last is not None:
            self._progress.stop_task(self._last)
