"""``vlm-gate train``, ``certify``, ``evaluate``, ``report``: from a run to its report.

Each reads folders, writes a new one, and records the hashes of what it read.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from probes.errors import DataError
from probes.types import QuestionMode
from service.cli.bundle import BundleFolder, Out, StoreFolder, certificates, probe_place
from service.cli.collect import warn_of_labels
from service.cli.recertify import MostPerGroup, ValidDays
from service.cli.told import no_certificate, told

if TYPE_CHECKING:
    from probes.data.store import Store
    from probes.guarantee.ledger import Ledger


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (train, certify, evaluate, report):
        app.command()(command)


def train(
    store: StoreFolder,
    out: Out,
    seed: Annotated[int, typer.Option(help="of the split by image")] = 0,
    reject_above: Annotated[
        float | None, typer.Option(help="risk above which answers are rejected", min=0, max=1)
    ] = None,
    blank: Annotated[
        Path | None,
        typer.Option(help="run of the same questions by collect --image blank", file_okay=False),
    ] = None,
) -> None:
    """Fit probe, fusion, calibration and domain; write a bundle without certificates."""
    from probes.data.store import load
    from probes.fit.train import train as run_training
    from probes.model.policy import Policy
    from probes.report.risk_words import made_of

    with Console(stderr=True).status("load") as status:
        loaded = load(store)
        warn_of_labels(loaded)
        bundle = run_training(
            loaded, out, seed=seed, policy=Policy(reject_above=reject_above),
            blank=None if blank is None else load(blank), progress=status.update,
        )  # fmt: skip
    risk = made_of(bundle.stage_one.features)
    typer.echo(f"{bundle.id}: probe on {probe_place(bundle)}; risk of {risk}, in {out}")


def certify(
    store: StoreFolder,
    bundle: BundleFolder,
    out: Out,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="error rate among accepted answers to serve; 0.1 by default",
            min=0.001,
            max=0.5,
        ),
    ] = None,
    also: Annotated[
        list[float] | None,
        typer.Option(help="error rate to try for as well; may be repeated", min=0.001, max=0.5),
    ] = None,
    most_per_group: MostPerGroup = None,
    valid_days: ValidDays = 365,
    slices_by: Annotated[
        Literal["slice", "kind"] | None,
        typer.Option(help="certificates per slice too: by the records' slice or kind"),
    ] = None,
    slice_key: Annotated[
        str | None,
        typer.Option(help="metadata key by which a request names its slice; as --slices-by"),
    ] = None,
    questions: Annotated[
        QuestionMode | None,
        typer.Option(
            help="which questions are in the domain: the dataset's own, those and other values in "
            "their slots, or any like them; by default as training chose"
        ),
    ] = None,
) -> None:
    """Test thresholds on the calibration split; write the bundle with its certificates.

    Every error rate and self-consistency mode spends from one delta (docs/decisions/0009), that of
    --alpha in the policy's own mode first. Ends with 3 when nothing can be promised; the bundle is
    written all the same.
    """
    from probes.data.store import load
    from probes.guarantee.certify import ALPHA
    from probes.guarantee.certify import certify as run_certification
    from probes.guarantee.ledger import told as ledger_told
    from probes.model.folder import read_bundle
    from probes.model.slicing import Slicing
    from service.settings import SettingsError

    with told(SettingsError), Console(stderr=True).status("certify"):
        loaded = load(store)
        ledger = _ledger(store, loaded)
        certified = run_certification(
            loaded, read_bundle(bundle), out, created=datetime.now(UTC), share=ledger.share,
            alpha=ALPHA if alpha is None else alpha, also=also or (), most=most_per_group,
            valid_days=valid_days,
            slicing=None if slices_by is None else Slicing(slices_by, slice_key or slices_by),
            questions=questions,
        )  # fmt: skip
    Console().print(certificates(certified))
    typer.echo(ledger_told(ledger.tries))
    if not (certified.certificates or certified.slice_certificates):
        no_certificate(
            f"no threshold passed at alpha {certified.alpha:g}; the bundle in {out} accepts nothing"
        )


def _ledger(folder: Path, store: Store) -> Ledger:
    """The tries on a run's data, kept in its folder and in that of the settings."""
    from probes.guarantee.ledger import Ledger, anchors
    from service.settings import load_settings

    images = (record.image_hash for record in store.records)
    return Ledger(
        anchors(images, store.setup.model.revision),
        (folder, load_settings().tries_folder),
        warn=lambda message: typer.echo(f"warning: {message}", err=True),
    )


def evaluate(
    store: StoreFolder,
    bundle: BundleFolder,
    out: Out,
    domain: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of another store to report on")
    ] = None,
    blank: Annotated[
        Path | None,
        typer.Option(help="run of the same questions by collect --image blank", file_okay=False),
    ] = None,
) -> None:
    """Judge every signal on the test split; write evaluation.json."""
    from probes.data.store import load
    from probes.judge.evaluate import evaluate as run_evaluation
    from probes.model.folder import read_bundle
    from service.settings import SettingsError

    with told(SettingsError), Console(stderr=True).status("evaluate"):
        others = {}
        for pair in domain or []:
            name, equals, folder = pair.partition("=")
            if not (name and equals and folder):
                raise DataError(f"domain: {pair!r}; write NAME=FOLDER")
            others[name] = load(Path(folder))
        loaded = load(store)
        found = run_evaluation(
            loaded, read_bundle(bundle), out, domains=others, tries=_ledger(store, loaded).tries,
            blank=None if blank is None else load(blank),
        )  # fmt: skip
    for flag in found["flags"]:
        typer.echo(f"warning: {flag['text']}", err=True)
    risk = found["signals"]["risk"]["auroc"]["estimate"]
    typer.echo(f"AUROC of the risk {risk:.3f} on {found['test']['answers']} answers, in {out}")


def report(
    evaluation: Annotated[Path, typer.Argument(help="folder that evaluate wrote")],
    out: Out,
    store: Annotated[
        Path | None,
        typer.Option(help="run that was evaluated: its examples are asked again and shown"),
    ] = None,
) -> None:
    """Write an evaluation as Markdown and as one HTML page."""
    from probes.report.report import report as write_report
    from service.engines.base import EngineError
    from service.offline.show_examples import show_examples
    from service.settings import SettingsError

    with told(EngineError, SettingsError):
        shown = () if store is None else asyncio.run(show_examples(evaluation, store))
        folder = write_report(evaluation, out, shown)
    typer.echo(f"{folder / 'report.md'} and {folder / 'report.html'}")
