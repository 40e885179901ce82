"""The offline commands: collect, train, certify, evaluate, report, bundle, policy.

Each reads folders, writes a new one, and records the hashes of what it read.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from probes.data.store import Store
from probes.errors import DataError
from probes.guarantee.ledger import Ledger, anchors
from probes.guarantee.ledger import told as ledger_told
from probes.model.bundle import Bundle
from probes.model.certificate import ESTIMANDS, Certificate
from probes.model.folder import read_bundle
from probes.report.risk_words import has_probe, made_of
from probes.signals.question import QuestionMode
from probes.types import Missing
from service.cli.collect import collect, warn_of_labels
from service.cli.recertify import Loosen, MostPerGroup, ValidDays, recertify
from service.cli.records import Day
from service.cli.replay import replay
from service.cli.told import no_certificate, told
from service.settings import SettingsError, load_settings

StoreFolder = Annotated[Path, typer.Argument(help="folder that collect wrote", file_okay=False)]
BundleFolder = Annotated[Path, typer.Argument(help="folder of a bundle", file_okay=False)]
Out = Annotated[Path, typer.Option(help="new folder to write")]


def register(app: typer.Typer) -> None:
    """Add the offline commands to the command line."""
    for command in (collect, train, certify, recertify, evaluate, report):
        app.command()(command)
    bundle = typer.Typer(no_args_is_help=True, help="Look at a bundle.")
    bundle.command()(inspect)
    bundle.command()(verify)
    bundle.command()(rebind)
    app.add_typer(bundle, name="bundle")
    policy = typer.Typer(no_args_is_help=True, help="Try out thresholds.")
    policy.command()(simulate)
    policy.command()(replay)
    app.add_typer(policy, name="policy")


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

    with told(), Console(stderr=True).status("load") as status:
        loaded = load(store)
        warn_of_labels(loaded)
        bundle = run_training(
            loaded, out, seed=seed, policy=Policy(reject_above=reject_above),
            blank=None if blank is None else load(blank), progress=status.update,
        )  # fmt: skip
    typer.echo(
        f"{bundle.id}: probe on {_probe(bundle)}; risk of {made_of(bundle.stage_one.features)}, "
        f"in {out}"
    )


def certify(
    store: Annotated[
        Path, typer.Argument(help="folder that collect wrote; left out with --from-records")
    ],
    out: Out,
    bundle: Annotated[
        Path | None, typer.Argument(help="folder of a bundle", file_okay=False)
    ] = None,
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
    from_records: Annotated[
        bool, typer.Option("--from-records", help="as vlm-gate recertify, which replaces it")
    ] = False,
    since: Day = None,
    until: Day = None,
    loosen: Loosen = False,
) -> None:
    """Test thresholds on the calibration split; write the bundle with its certificates.

    Every error rate and self-consistency mode spends from one delta (docs/decisions/0009), that of
    --alpha in the policy's own mode first. Ends with 3 when nothing can be promised; the bundle is
    written all the same.
    """
    from probes.data.store import load
    from probes.guarantee.certify import ALPHA
    from probes.guarantee.certify import certify as run_certification
    from probes.model.slicing import Slicing

    if from_records:
        if bundle is not None or since is None:
            raise typer.BadParameter("write: certify BUNDLE --from-records --since DAY --out NEW")
        recertify(
            store, out, since, until, alpha=alpha, loosen=loosen,
            most_per_group=most_per_group, valid_days=valid_days,
        )  # fmt: skip
        return
    if bundle is None:
        raise typer.BadParameter("write: certify RUN BUNDLE --out NEW")
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
    Console().print(_certificates(certified))
    typer.echo(ledger_told(ledger.tries))
    if not (certified.certificates or certified.slice_certificates):
        no_certificate(
            f"no threshold passed at alpha {certified.alpha:g}; the bundle in {out} accepts nothing"
        )


def _ledger(folder: Path, store: Store) -> Ledger:
    """The tries on a run's data, kept in its folder and in that of the settings."""
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

    with told(EngineError):
        shown = () if store is None else asyncio.run(show_examples(evaluation, store))
        folder = write_report(evaluation, out, shown)
    typer.echo(f"{folder / 'report.md'} and {folder / 'report.html'}")


def inspect(folder: BundleFolder) -> None:
    """Print what a bundle holds."""
    with told():
        bundle = read_bundle(folder)
    table = Table("field", "value", title=bundle.id)
    second = bundle.stage_two
    for field, value in (
        ("model", f"{bundle.model.name} at {bundle.model.revision}"),
        ("engine", f"{bundle.model.engine}, {bundle.model.dtype}"),
        ("probe", _probe(bundle)),
        ("risk", made_of(bundle.stage_one.features)),
        (
            "risk with self-consistency",
            second.reason if isinstance(second, Missing) else made_of(second.features),
        ),
        ("reject above", str(bundle.policy.reject_above)),
        ("domain limit", f"{bundle.domain.limit:.3f}"),
        ("questions", _questions(bundle)),
        ("golden examples", str(len(bundle.golden))),
        ("trained on store", bundle.data),
    ):
        table.add_row(field, value)
    Console().print(table)
    Console().print(_certificates(bundle))


def verify(folder: BundleFolder) -> None:
    """Check every hash, the format and the fields of a bundle."""
    with told():
        bundle = read_bundle(folder)
    typer.echo(f"{bundle.id}: ok")


def rebind(
    folder: BundleFolder,
    out: Out,
    store: Annotated[
        Path | None, typer.Option(help="run collected by the new engine, to certify on")
    ] = None,
) -> None:
    """Bind a bundle to the engine of the settings, checked on its golden examples.

    The new bundle has no certificate: certify it on a run of that engine.
    """
    from probes.data.store import load
    from service.engines.base import EngineError
    from service.engines.build import serving_engine
    from service.offline.rebind import Rebound
    from service.offline.rebind import rebind as run_rebind
    from service.settings import SettingsError, load_settings

    async def go() -> Rebound:
        engine = serving_engine(load_settings(), bundle)
        await engine.start()
        try:
            return await run_rebind(bundle, engine, out, None if store is None else load(store))
        finally:
            await engine.close()

    with told(EngineError, SettingsError):
        bundle = read_bundle(folder)
        rebound = asyncio.run(go())
    typer.echo(
        f"{rebound.bundle.id}: golden readouts deviate by {rebound.deviation:.2g} at most "
        f"(tolerance {rebound.tolerance:.2g}); no certificate yet, in {out}"
    )


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

    with told():
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


def _probe(bundle: Bundle) -> str:
    """Where the probe reads, and whether the risk reads the probe."""
    place = f"layer {bundle.probe.layer} at {bundle.probe.position}"
    return place if has_probe(bundle.stage_one.features) else f"{place}, no part of the risk"


def _questions(bundle: Bundle) -> str:
    model = bundle.questions
    if isinstance(model, Missing):
        return "any at all: the bundle has no question side; train it again for one"
    if model.mode == "any":
        return f"any: surprise at most {model.limit:.2f} bits"
    if model.mode == "exact":
        return f"exact: {len(model.questions)} questions"
    return "\n".join(["template:", *map(str, model.templates)])


def _share(value: float | Missing) -> str:
    return value.reason if isinstance(value, Missing) else f"{value:.1%}"


def _certificates(bundle: Bundle) -> Table:
    title = "no certificate tried for" if bundle.alpha is None else f"serves alpha {bundle.alpha:g}"
    if bundle.loosened_from is not None:
        title += f" (loosened from {bundle.loosened_from:g})"
    table = Table(
        "alpha", "self-consistency", "slices", "certificate", "threshold", "wrong of", "tested",
        title=title,
    )  # fmt: skip
    for attempt in bundle.attempts:
        one = attempt.outcome
        cells = (
            (one.id, f"{one.threshold:.4f}", f"{one.k} of {one.n}", _tested(one))
            if isinstance(one, Certificate)
            else ("none", "-", f"- of {one.answers}", one.told())
        )
        slices = "all" if attempt.slices is None else ", ".join(attempt.slices)
        table.add_row(f"{attempt.alpha:g}", attempt.self_consistency, slices, *cells)
    found = [one.outcome for one in bundle.attempts if isinstance(one.outcome, Certificate)]
    told = {one.estimand: ESTIMANDS[one.estimand] for one in found}
    if any(one.unit == "image" and not one.old for one in found):
        told["images"] = "callers named no groups, so frames of one scene counted as independent"
    table.caption = "\n".join(f"{name}: {what}" for name, what in told.items()) or None
    return table


def _tested(one: Certificate) -> str:
    """The test and what it was about; an old one by its name alone."""
    if one.old:
        return f"old kind: {one.test}, one answer per image ({one.estimand})"
    return (
        f"{one.test}, {one.groups} {one.unit}s of at most {one.most_per_group} answers, level "
        f"{one.level:.4g} of delta {one.delta:g} ({one.estimand})"
    )
