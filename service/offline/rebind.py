"""A bundle from one engine to another: checked on its golden examples, written anew.

The probe and the risk model stay; what was measured through the old engine does not. The new bundle
gets golden examples read by the new engine and no certificate: certify it on answers of that
engine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from probes.errors import BundleError
from probes.model.bundle import Bundle, Golden
from probes.model.folder import write_bundle
from probes.types import Generation, Missing, ModelIdentity
from service.engines.base import Engine
from service.gate.parity import deviation, tolerance_of

if TYPE_CHECKING:
    from probes.data.store import Store

CHANGES = ("engine", "dtype")
"""Fields of the identity that may differ: the same weights, in another engine or arithmetic."""


@dataclass(frozen=True, slots=True)
class Rebound:
    """What a check on another engine found.

    Args:
        bundle: the new one.
        deviation: largest of a golden readout, as a share of its largest entry (at least 1).
        tolerance: that it had to keep to.
    """

    bundle: Bundle
    deviation: float
    tolerance: float


async def rebind(bundle: Bundle, engine: Engine, out: Path, store: Store | None = None) -> Rebound:
    """Check a bundle against a started engine and write it bound to that engine.

    Args:
        store: answers collected by the new engine; the new bundle can be certified on it. Which
            split an image belongs to depends on the image alone, so none that the probe was fitted
            on tests a threshold.

    Raises:
        BundleError: another model, another answer to a golden example, a readout that deviates by
            more than the tolerance of the less exact arithmetic, or a store of another engine.
        EngineError: the engine failed.
    """
    identity = engine.identity
    _check_model(bundle, identity)
    if store is not None and store.setup.model != identity:
        raise BundleError("store", "was collected by another model or engine; collect it again")
    if store is not None and store.setup.generation != bundle.generation:
        raise BundleError("store", "was generated with other settings; collect it again")
    tolerance = max(tolerance_of(bundle.model.dtype), tolerance_of(identity.dtype))
    answers = await asyncio.gather(
        *(engine.generate(golden.query, bundle.readout) for golden in bundle.golden)
    )
    renewed = tuple(
        _renew(f"golden {number}", golden, answer)
        for number, (golden, answer) in enumerate(zip(bundle.golden, answers, strict=True))
    )
    apart = [
        deviation(expected, new.readouts[place])
        for golden, new in zip(bundle.golden, renewed, strict=True)
        for place, expected in golden.readouts.items()
    ]
    worst = max(apart, default=0.0)
    if not all(one <= tolerance for one in apart):  # not a number is no match either
        raise BundleError(
            "golden", f"readouts deviate by {worst:.2g}, more than {tolerance:.2g}; train anew"
        )
    rebound = replace(
        bundle,
        model=identity,
        golden=renewed,
        alpha=None,
        attempts=(),
        data=bundle.data if store is None else store.fingerprint,
        training={**bundle.training, "rebound_from": bundle.id},
    )
    return Rebound(write_bundle(rebound, out), worst, tolerance)


def _renew(where: str, golden: Golden, answer: Generation) -> Golden:
    """The golden example as the new engine reads it. Raises BundleError: another answer."""
    if answer.answer != golden.answer:
        raise BundleError(
            where, f"is answered {answer.answer!r} instead of {golden.answer!r}; train anew"
        )
    readouts = {}
    for place in golden.readouts:
        found = answer.trace.readouts.get(place, Missing("not_read"))
        if isinstance(found, Missing):
            raise BundleError(where, f"nothing was read at {place} ({found.reason})")
        readouts[place] = found
    return Golden(golden.query, answer.answer, readouts)


def _check_model(bundle: Bundle, identity: ModelIdentity) -> None:
    if not bundle.golden:
        raise BundleError("golden", "the bundle has no golden examples; train it again")
    for field in fields(ModelIdentity):
        expected, found = getattr(bundle.model, field.name), getattr(identity, field.name)
        if field.name not in CHANGES and expected != found:
            raise BundleError(
                f"model.{field.name}",
                f"the bundle was trained on {expected!r}, the engine runs {found!r}; "
                "only engine and dtype may change",
            )
