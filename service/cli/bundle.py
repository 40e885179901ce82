"""``vlm-gate bundle``: what a bundle holds, whether it is whole, and another engine for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from probes.types import Missing
from service.cli.told import told

if TYPE_CHECKING:
    from probes.model.bundle import Bundle
    from probes.model.certificate import Certificate

StoreFolder = Annotated[Path, typer.Argument(help="folder that collect wrote", file_okay=False)]
BundleFolder = Annotated[Path, typer.Argument(help="folder of a bundle", file_okay=False)]
Out = Annotated[Path, typer.Option(help="new folder to write")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    bundle = typer.Typer(no_args_is_help=True, help="Look at a bundle.")
    for command in (inspect, verify, rebind):
        bundle.command()(command)
    app.add_typer(bundle, name="bundle")


def inspect(folder: BundleFolder) -> None:
    """Print what a bundle holds."""
    from probes.model.folder import read_bundle
    from probes.report.risk_words import made_of

    bundle = read_bundle(folder)
    table = Table("field", "value", title=bundle.id)
    second = bundle.stage_two
    for field, value in (
        ("model", f"{bundle.model.name} at {bundle.model.revision}"),
        ("engine", f"{bundle.model.engine}, {bundle.model.dtype}"),
        ("probe", probe_place(bundle)),
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
    Console().print(certificates(bundle))


def verify(folder: BundleFolder) -> None:
    """Check every hash, the format and the fields of a bundle."""
    from probes.model.folder import read_bundle

    typer.echo(f"{read_bundle(folder).id}: ok")


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
    from probes.model.folder import read_bundle
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


def probe_place(bundle: Bundle) -> str:
    """Where the probe reads, and whether the risk reads the probe."""
    from probes.report.risk_words import has_probe

    place = f"layer {bundle.probe.layer} at {bundle.probe.position}"
    return place if has_probe(bundle.stage_one.features) else f"{place}, no part of the risk"


def _questions(bundle: Bundle) -> str:
    """Which questions are in the domain."""
    model = bundle.questions
    if isinstance(model, Missing):
        return "any at all: the bundle has no question side; train it again for one"
    if model.mode == "any":
        return f"any: surprise at most {model.limit:.2f} bits"
    if model.mode == "exact":
        return f"exact: {len(model.questions)} questions"
    return "\n".join(["template:", *map(str, model.templates)])


def certificates(bundle: Bundle) -> Table:
    """A row for each certificate that was tried for: what it promises, or why there is none."""
    from probes.model.certificate import ESTIMANDS, Certificate

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
