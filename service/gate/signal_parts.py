"""The signals as plain JSON: the same in a response, a record and a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from probes.signals.question import QuestionModel
from probes.types import Domain, ImageDomain, Missing, QuestionDomain, Signals

_NAMES = tuple(field.name for field in fields(Signals))


def parts_of(signals: Signals) -> dict[str, dict[str, Any]]:
    """Each signal by name, as the numbers that it holds or ``{"missing": reason}``."""
    return {name: _part(getattr(signals, name)) for name in _NAMES}


def recorded_domain(
    part: Mapping[str, Any], limit: float, questions: QuestionModel | Missing
) -> Domain:
    """The domain of a record under other limits; a record of before has no question side.

    Args:
        part: as :func:`parts_of` gave it, not missing.
        limit: the image side's. questions: of the same training questions and the same mode as
            those that measured the part.
    """
    told = part.get("images") or [{"distance": part["distance"]}]
    images = tuple(ImageDomain(one["distance"], one["distance"] <= limit) for one in told)
    asked = part.get("question", {})
    if isinstance(questions, Missing) or "surprise" not in asked:
        return Domain(images)
    bits, mode = asked["surprise"], questions.mode
    inside = bits <= questions.limit if mode == "any" else asked["inside"]
    return Domain(images, QuestionDomain(bits, inside, mode))


def _part(signal: Any) -> dict[str, Any]:
    if isinstance(signal, Missing):
        return {"missing": signal.reason}
    if isinstance(signal, Domain):
        return {
            "distance": signal.distance,
            "inside": signal.inside,
            "part": signal.part,
            "images": [asdict(image) for image in signal.images],
            "question": _part(signal.question),
        }
    return {name: getattr(signal, name) for name in signal.__slots__}
