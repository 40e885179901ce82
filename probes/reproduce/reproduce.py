"""Reproduces the papers' comparison for one model and one dataset, by one call.

Steps are folders of ``out``: ``store`` and ``blank`` (collect), ``trained`` (train), ``bundle``
(certify), ``evaluation`` (evaluate), ``measured`` and ``ablated``. Each is made once; a run that
was cut off goes on with the first that is not whole. The outcome is ``reproduction.json`` and
``reproduction.md``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from probes.data.collect import Engine as Collecting
from probes.data.collect import collect
from probes.data.datasets.example import Example
from probes.data.shards import Column
from probes.data.splits import SplitName, splits_of
from probes.data.store import Store
from probes.errors import StoreError, TrainingError
from probes.fit.train import SHARES, train
from probes.guarantee.certify import certify
from probes.guarantee.ledger import Ledger, anchors
from probes.judge.evaluate import evaluate
from probes.judge.side_by_side import BASELINE
from probes.model.bundle import Bundle
from probes.model.folder import read_bundle
from probes.report.report import load_evaluation
from probes.reproduce.ablation import DRAWS, Ablatable, Condition, ablate_all, conditions
from probes.reproduce.comparison import ALL, Comparison
from probes.reproduce.measurements import Engine as Measuring
from probes.reproduce.measurements import measure_all
from probes.reproduce.page import render
from probes.reproduce.papers import Value, judge_claims
from probes.stats.paired import Lost
from probes.types import GenerationSettings, Interval, Missing

REPRODUCTION, PAGE, PLAN = "reproduction.json", "reproduction.md", "plan.json"
FORMAT = 1
ALPHA = 0.05
"""Of the certificates: one claim with `certify --alpha 0.05` on the same run, not a second try."""
Made = TypeVar("Made")


class Engine(Collecting, Measuring, Protocol):
    """A started engine. Neurons are ablated where it is ``Ablatable`` too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a reproduction; the same plan gives the same numbers.

    Args:
        generation: how answers are generated; ``samples`` for self-consistency.
        shares: of the images per split.
        seed: of the split and of everything drawn.
        resamples: of every bootstrap.
        ablation_answers: answers of the test split asked again with neurons ablated.
        draws: sets of random neurons.
        in_flight: questions given to the engine at once; no part of the outcome.
    """

    generation: GenerationSettings
    shares: Mapping[SplitName, float] = field(default_factory=lambda: SHARES)
    seed: int = 0
    resamples: int = 1000
    ablation_answers: int = 1000
    draws: int = DRAWS
    in_flight: int = 256


async def reproduce(
    examples: Sequence[Example],
    engine: Engine,
    out: Path,
    *,
    plan: Plan,
    created: datetime,
    step: Callable[[str, int], Callable[[int], None]] = lambda name, total: lambda done: None,
) -> dict[str, Any]:
    """Run the comparison and write its outcome.

    Args:
        out: folder of the run; an unfinished one goes on.
        created: now, with a time zone, for the certificates.
        step: called with the name of each step as it begins and its number of questions (0: it asks
            none); call what it returns with the number of questions done since the last call.

    Returns what was written. Raises StoreError when the folder holds another run, TrainingError and
    DataError when the data do not suffice, and what the engine raises.
    """
    await asyncio.to_thread(_check_plan, out, plan)
    every = tuple(range(1, engine.identity.layers + 1))
    store = await collect(
        examples, engine, out / "store", generation=plan.generation, layers=every,
        in_flight=plan.in_flight, progress=step("store", len(examples)),
    )  # fmt: skip
    blank = await collect(
        examples, engine, out / "blank", generation=replace(plan.generation, samples=0),
        layers=every, image="blank", in_flight=plan.in_flight,
        progress=step("blank", len(examples)),
    )  # fmt: skip
    step("train", 0)
    bundle, evaluation = await asyncio.to_thread(_judge, store, blank, out, plan, created)
    rows = np.flatnonzero(splits_of(store, bundle) == "test")
    columns = await measure_all(
        store, rows.tolist(), engine, out / "measured", in_flight=plan.in_flight,
        progress=step("measured", len(rows)),
    )  # fmt: skip
    again = _ablation_rows(store, rows, plan.ablation_answers)
    tried = conditions(bundle.probe, plan.draws, plan.seed)
    ablated: Column | Missing = Missing("not_supported")
    if isinstance(engine, Ablatable):
        found = await ablate_all(
            store, rows[again].tolist(), engine, bundle.probe, out / "ablated", tried=tried,
            in_flight=plan.in_flight, progress=step("ablated", len(again)),
        )  # fmt: skip
        ablated = found["wrong"]
    step("compare", 0)
    comparison = Comparison(store, rows, plan.resamples)
    content = await asyncio.to_thread(
        _content, comparison, bundle, evaluation, columns, (again, ablated, tried), plan
    )
    return await asyncio.to_thread(_write, content, out)


def _outcome_of(plan: Plan) -> dict[str, Any]:
    """Return the part of the plan that decides the numbers, as plain JSON."""
    kept = {name: value for name, value in asdict(plan).items() if name != "in_flight"}
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def _check_plan(out: Path, plan: Plan) -> None:
    """Raise StoreError unless the folder holds this plan, or none yet."""
    path, wanted = out / PLAN, _outcome_of(plan)
    out.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if any(out.iterdir()):
            raise StoreError(f"{out}: is not empty and no reproduction; give a new folder")
        path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise StoreError(
                f"{path}: {name} is {found.get(name)!r}, this run has {value!r}; "
                "reproduce into a new folder"
            )


def _judge(
    store: Store, blank: Store, out: Path, plan: Plan, created: datetime
) -> tuple[Bundle, dict[str, Any]]:
    trained = _once(
        out / "trained", read_bundle,
        lambda folder: train(store, folder, seed=plan.seed, shares=plan.shares, blank=blank),
    )  # fmt: skip
    if trained.data != store.fingerprint:
        raise StoreError(f"{out / 'trained'}: is of another run; reproduce into a new folder")
    images = [record.image_hash for record in store.records]
    bundle = _once(
        out / "bundle", read_bundle,
        lambda folder: certify(
            store, trained, folder, created=created, alpha=ALPHA,
            share=Ledger(anchors(images, store.setup.model.revision), (out / "store",)).share,
        ),
    )  # fmt: skip
    _once(
        out / "evaluation", load_evaluation,
        lambda folder: evaluate(store, bundle, folder, blank=blank, resamples=plan.resamples),
    )  # fmt: skip
    return bundle, load_evaluation(out / "evaluation")[0]


def _once(folder: Path, load: Callable[[Path], Made], make: Callable[[Path], object]) -> Made:
    """Make a step's folder beside it, so that it is whole or not there, and load it."""
    if not folder.exists():
        unfinished = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished)
        os.replace(unfinished, folder)
    return load(folder)


def _ablation_rows(store: Store, rows: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """Choose the test answers to ask again: the first by the hash of their id."""
    keys = [hashlib.sha256(store.records[row].id.encode()).hexdigest() for row in rows]
    return np.sort(np.argsort(np.array(keys), kind="stable")[:most])


def _content(
    comparison: Comparison,
    bundle: Bundle,
    evaluation: Mapping[str, Any],
    columns: Mapping[str, Column],
    ablation: tuple[np.ndarray[Any, Any], Column | Missing, Sequence[Condition]],
    plan: Plan,
) -> dict[str, Any]:
    again, ablated, tried = ablation
    found = {
        "attention": comparison.attention(columns["attention"]),
        "prompt_side": comparison.prompt_side(columns["prompt_side"]),
        "margins": comparison.margins(columns["margins"]),
        "heads": comparison.heads(columns["heads"]),
        "evidence": comparison.evidence(columns["drops"], columns["flipped"]),
        "masking": comparison.masking(columns["wrong"], columns["masked_wrong"]),
        "ablation": ablated
        if isinstance(ablated, Missing)
        else comparison.ablation(again, ablated.values, tried),
        "signals": comparison.signals(bundle),
    }
    found = json.loads(json.dumps(found, default=_plain, allow_nan=False))
    kept = (
        "model", "generation", "probe", "risk_features", "fingerprints", "test", "accuracy",
        "signals", "missing_signals", "probe_per_layer", "attention_per_layer", "controls",
        "certificates", "flags",
    )  # fmt: skip
    return {
        "format": FORMAT,
        "plan": _outcome_of(plan),
        **{name: evaluation[name] for name in kept},
        "comparison": found,
        "not_measured": {
            name: dict(column.missing) for name, column in columns.items() if column.missing
        },
        "claims": judge_claims(claim_values(found), bundle.model.family),
    }


def claim_values(found: Mapping[str, Any]) -> dict[str, Value]:
    """Return our value of every claim of :mod:`probes.reproduce.papers` that was measured.

    Args:
        found: the comparison, as plain JSON.
    """
    values: dict[str, Value] = {}
    for row in found["attention"]:
        if (row["kind"], row["position"]) == (ALL, "answer_mean"):
            values[f"r_{row['metric']}"] = row["r"]
    pools = {name: pool.get("signals", {}) for name, pool in found["signals"].items()}
    yes_no, everything, other = pools["yes_no"], pools[ALL], pools["open"]
    for name, signal in (
        ("spatial_entropy", "attention_spatial_entropy"),
        ("clusters", "attention_clusters"),
        ("entropy", "first_token_entropy"),
        ("confidence", BASELINE),
        ("probe", "hidden_state_probe"),
        ("consistency", "self_consistency"),
    ):
        if signal in yes_no:
            values[f"yes_no_{name}"] = yes_no[signal]["auroc"]
    if "self_consistency" in everything:
        values["r_consistency"] = everything["self_consistency"]["point_biserial"]
    for prefix, pool in (("yes_no", yes_no), ("open", other)):
        probe = pool.get("hidden_state_probe", {})
        for rival, signal in (("confidence", BASELINE), ("consistency", "self_consistency")):
            if f"above_{signal}" in probe:
                ahead = probe[f"above_{signal}"]
                values[f"{prefix}_probe_above_{rival}"] = ahead
                values[f"{prefix}_{rival}_above_probe"] = _negated(ahead)
    for row in found["masking"]:
        if row["kind"] == ALL and row["after"] == "top30" and row["before"] != "bottom30":
            suffix = "" if row["before"] == "whole" else f"_against_{row['before']}"
            values[f"masked_top30{suffix}"] = row["lost"]
    ablation = found["ablation"]
    for row in ablation if isinstance(ablation, list) else ():
        if row["held"] == "zero":
            few = row["neurons"] == min(one["neurons"] for one in ablation)
            values["ablated_few" if few else "ablated_half"] = row["top"]
            if few:
                values["ablated_few_against_random"] = row["top_above_random"]
    return values


def _negated(value: Value) -> Value:
    if "missing" in value:
        return value
    return {
        "estimate": -value["estimate"], "lower": -value["upper"], "upper": -value["lower"],
    }  # fmt: skip


def _plain(value: object) -> Any:
    match value:
        case Missing(reason=reason):
            return {"missing": reason}
        case Interval() | Lost():
            return {one.name: getattr(value, one.name) for one in fields(value)}
    raise TypeError(f"{type(value).__name__} does not belong into a reproduction")


def _write(content: Mapping[str, Any], out: Path) -> dict[str, Any]:
    plain = json.dumps(content, allow_nan=False)
    # Six digits: the rest is below any interval, and the file is kept for good.
    written: dict[str, Any] = json.loads(
        plain, parse_float=lambda text: float(f"{float(text):.6g}")
    )
    text = json.dumps(written, indent=1, allow_nan=False) + "\n"
    (out / REPRODUCTION).write_text(text, encoding="utf-8")
    (out / PAGE).write_text(render([written]), encoding="utf-8")
    return written


def merge(files: Sequence[Path], out: Path) -> None:
    """Write one page of several reproductions side by side. Raises StoreError for another file."""
    found = []
    for path in files:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error})") from error
        if (
            not isinstance(content, dict)
            or content.get("format") != FORMAT
            or ("claims" not in content)
        ):
            raise StoreError(f"{path}: is no reproduction.json of format {FORMAT}")
        found.append(content)
    if not found:
        raise TrainingError("merge: no reproduction.json given")
    try:
        page = render(found)
    except (KeyError, TypeError) as error:
        raise StoreError(f"merge: one of the files lacks {error}; reproduce it again") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
