"""``vlm-gate collect``: answers, labels and signals of a dataset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from probes.errors import DataError
from probes.types import GenerationSettings
from service.cli.told import told

if TYPE_CHECKING:
    from probes.data.store import Store

DatasetFormat = Literal["jsonl", "csv", "pope", "vqa"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(collect)


def collect(
    dataset: Annotated[Path, typer.Argument(help="file of labelled questions")],
    out: Annotated[Path, typer.Option(help="folder of the run; an unfinished one goes on")],
    max_tokens: Annotated[int, typer.Option(help="most tokens of an answer", min=1)] = 64,
    samples: Annotated[int, typer.Option(help="answers sampled; 0 for none", min=0)] = 10,
    temperature: Annotated[float, typer.Option(help="of the samples", min=0.01)] = 0.7,
    top_p: Annotated[float, typer.Option(help="of the samples", min=0.01, max=1.0)] = 0.9,
    format: Annotated[
        DatasetFormat | None, typer.Option(help="of the dataset; told by its content if left out")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="folder, .tar or .parquet; beside the dataset if left out")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="of vqa; beside the questions if left out")
    ] = None,
    strict: Annotated[bool, typer.Option(help="stop when a record is malformed")] = False,
    shard: Annotated[
        str | None, typer.Option(help="i/n: only every n-th image, for one of n workers; see merge")
    ] = None,
    image: Annotated[
        Literal["real", "blank"],
        typer.Option(help="blank: ask about a grey image of the same size, for a companion run"),
    ] = "real",
    layers: Annotated[
        str | None,
        typer.Option(help="hidden states to read, such as 8,16; four of the decoder if left out"),
    ] = None,
) -> None:
    """Ask every question of a dataset and store answers, labels and signals.

    Malformed records are listed and left out.
    """
    from probes.data.collect import collect as run_collection
    from probes.data.datasets import load_dataset
    from probes.data.partition import take_shard
    from probes.pictures.container import Limits
    from service.engines.base import EngineError
    from service.engines.build import collection_engine
    from service.settings import SettingsError, load_settings

    async def go(read: tuple[int, ...] | None) -> str:
        engine = collection_engine(layers=read)
        await engine.start()
        try:
            with _bar("collect", len(examples)) as advance:
                store = await run_collection(
                    examples,
                    engine,
                    out,
                    generation=GenerationSettings(max_tokens, samples, temperature, top_p),
                    layers=read,
                    image=image,
                    limits=limits,
                    progress=advance,
                )
        finally:
            await engine.close()
        for why in store.skipped.values():
            typer.echo(f"{dataset}: {why}; left out", err=True)
        warn_of_labels(store)
        warn_of_groups(store)
        return f"{len(store.records)} answers, {store.wrong.mean():.1%} wrong, in {out}"

    with told(EngineError, SettingsError):
        settings = load_settings()
        limits = Limits(settings.max_image_bytes, settings.max_pixels)
        examples, problems = load_dataset(
            dataset, format=format, images=images, annotations=annotations
        )
        for problem in problems:
            typer.echo(f"{dataset}: {problem}", err=True)
        if problems:
            typer.echo(f"{len(examples)} records used, {len(problems)} malformed", err=True)
        if problems and (strict or not examples):
            raise DataError(f"{len(problems)} malformed records; mend them")
        if shard is not None:
            examples = take_shard(examples, shard)
        typer.echo(asyncio.run(go(None if layers is None else _layers(layers))))


def _layers(text: str) -> tuple[int, ...]:
    """The numbers of ``--layers``, in order, each once. Raises DataError."""
    try:
        found = tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        raise DataError(f"layers: {text!r} is not a list of numbers such as 8,16,24") from None
    if found[0] < 1:
        raise DataError(f"layers: {found[0]} is no layer of a decoder; they count from 1")
    return found


def warn_of_labels(store: Store) -> None:
    """The base accuracy first, and a warning where it shows that labels may be broken."""
    from probes.data.base_accuracy import base_accuracy

    for base in base_accuracy(store.records):
        if base.kind == "all":
            typer.echo(
                f"accuracy {base.accuracy:.1%} of {base.answers} answers; always "
                f"{base.majority_answer!r} would have {base.majority_rate:.1%}",
                err=True,
            )
        for warning in base.warnings:
            typer.echo(f"warning: {warning}", err=True)


def warn_of_groups(store: Store) -> None:
    """Which images were put together for their looks."""
    from probes.data.groups import warnings_of

    for warning in warnings_of(store.grouping, store.records):
        typer.echo(f"warning: {warning}", err=True)


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.advance(task, count)
