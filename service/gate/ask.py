"""A question on its way through the gate, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probes.model.certificate import Certificate
from probes.types import (
    ConsistencyMode,
    Decision,
    Generation,
    Missing,
    Query,
    RiskAssessment,
)
from service.gate.rules import Rules
from service.images.picture import Picture

if TYPE_CHECKING:
    from service.gate.candidate import Compared


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A question, how to judge it, and what the records keep of it.

    Args:
        group: scene, part or batch that the image shows, as the caller names it.
        rules: judge it to its end, whatever replaces them meanwhile.
        on_generation: called with the answer as soon as there is one, before it is judged.
    """

    query: Query
    self_consistency: ConsistencyMode
    samples: int
    evidence: bool
    picture: Picture
    metadata: Mapping[str, str]
    group: str | None
    rules: Rules
    on_generation: Callable[[Generation], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An answer with its risk and its decision."""

    generation: Generation
    assessment: RiskAssessment
    decision: Decision
    certificate: Certificate | Missing
    compared: Compared | None = None
