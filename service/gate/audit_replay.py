"""The test of a promise over its audits, as they are known now or were when it was found void."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from probes.monitor.error_rate import Draw, ErrorMonitor, spread
from service.records.audits import Claim, Sample, Tally
from service.records.voids import Change

Rates = Mapping[Claim, float]
NAMED_AUDITS = 100
"""Audits of a group after which no image joins it by name any more. A group as wide as the line
would be one bet for good, and nothing could void the promise."""


def replay(
    samples: Sequence[Sample],
    counts: Sequence[Tally],
    alpha: float,
    delta: float,
    rates: Rates = MappingProxyType({}),
) -> ErrorMonitor:
    """The test over audits in their order, after those of which only counts are left.

    ``rates``: the alphas of claims whose alpha may be another one.
    """
    earlier = [draw for p, *row in counts for draw in spread(p, row, "counted")]
    draws = [
        Draw(
            one.id, group, one.probability, one.reference or one.probability, one.wrong,
            rates.get(one.claim),
        )
        for one, group in zip(samples, groups_of(samples), strict=True)
    ]  # fmt: skip
    return ErrorMonitor.replay([*earlier, *draws], alpha, delta)


def groups_of(samples: Iterable[Sample]) -> list[str]:
    """The group of each audit, as :func:`grouped` has it."""
    return grouped(((one.image, one.named_group) for one in samples), NAMED_AUDITS)


def grouped(seen: Iterable[tuple[str, str | None]], most: int | None = None) -> list[str]:
    """The group of each answer, named by the image that it began with.

    An image belongs to one group, whatever it is called later: that of the first name it came with,
    if that was known, or else its own. A name that is finer than the image, a request's id, so
    splits nothing; and an image that comes with many names, a reference image, joins no two of
    them: a name begins with its first new image. An answer is placed by those before it and stays
    there.

    Args:
        seen: image and name of each answer, None where it has none, in their order.
        most: answers of a group after which no image joins it by name any more.
    """
    of_image: dict[str, str] = {}
    of_name: dict[str, str] = {}
    named: set[str] = set()
    counted: Counter[str] = Counter()
    found = []
    for image, name in seen:
        new = image not in of_image
        group = of_image.get(image) or (of_name.get(name, image) if name is not None else image)
        if group != image and most is not None and counted[group] >= most:
            group = image
        of_image[image] = group
        if name is not None and name not in of_name and (new or group not in named):
            of_name[name] = group
            named.add(group)
        counted[group] += 1
        found.append(group)
    return found


def ends(sample: Sample, deadline: timedelta | None) -> datetime | None:
    """When an audit counts as wrong, unless judged; never where the records know no rule."""
    return None if deadline is None or sample.reference is None else sample.arrived + deadline


def with_overdue(
    samples: Iterable[Sample], deadline: timedelta | None, now: datetime
) -> list[Sample]:
    """The audits, those that nobody judged in time as wrong."""
    return [
        replace(sample, wrong=True)
        if sample.wrong is None and (end := ends(sample, deadline)) is not None and end <= now
        else sample
        for sample in samples
    ]


def newest_carrier(samples: Sequence[Sample], found: ErrorMonitor, default: datetime) -> datetime:
    """When the newest audit arrived that the evidence rests on."""
    carriers = frozenset(found.carriers)
    return max((one.arrived for one in samples if one.id in carriers), default=default)


def without_single_words(
    samples: Iterable[Sample], but: AbstractSet[str] = frozenset()
) -> list[Sample]:
    """The audits, those found wrong by one reviewer alone as right; not those ``but`` names."""
    return [
        replace(one, wrong=False) if one.wrong and not one.confirmed and one.id not in but else one
        for one in samples
    ]


def still_rests(
    void: Change,
    samples: Sequence[Sample],
    counts: Sequence[Tally],
    rates: Rates = MappingProxyType({}),
) -> bool:
    """Whether a void stays, by the words of today on what it rested on.

    Only corrected words, and words on audits that were overdue, can take a void back. Audits that
    were not known then say nothing of it, and an audit that counted as wrong does so until it is
    found right: good answers that came later, whatever their place, and other settings lift
    nothing. A void of an earlier version, which kept no basis, stays until a word was corrected and
    today's test does not find it.
    """
    if void.basis is None:
        corrected = any(sample.corrected for sample in samples)
        return not corrected or replay(samples, counts, void.alpha, void.delta).void
    wrong = frozenset(void.basis["wrong"])
    known = [sample for sample in samples if sample.known(void.basis["read"])]
    if not any(sample.wrong is False and sample.id in wrong for sample in known):
        return True
    unjudged = [
        replace(one, wrong=True) if one.wrong is None and one.id in wrong else one for one in known
    ]
    if void.basis.get("confirmed", False):
        unjudged = without_single_words(unjudged, wrong)
    return replay(unjudged, counts, void.alpha, void.delta, rates).void
