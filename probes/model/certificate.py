"""A certificate, and the outcome of a test that gave none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_type_hints

from probes.errors import BundleError
from probes.model.typed import fits
from probes.types import ConsistencyMode, Scope

OLD_TEST = "binomial"


ESTIMANDS: Mapping[str, str] = {
    "accepted_answer": "the share of wrong answers among accepted ones, at most so many answers "
    "of each group counted",
    "random_question_of_random_image": "the chance that the answer to a random question of a "
    "random image is wrong once accepted: images count alike, however many questions they have",
}
"""What a certificate is about, by the code in it. The second is that of certificates made before
groups were tested whole; it says nothing of images that get more questions and err more."""


FROM_RECORDS = "records-"
"""Begins the ``data`` of a certificate that was made from judged answers in the records."""


SAYS = (
    "alpha", "delta", "self_consistency", "samples", "bundle", "model", "data", "slices", "test",
    "unit", "estimand", "most_per_group",
)  # fmt: skip
"""The fields that the id is a hash of. Not when it was made or ends, nor what was found: the same
data certified again give the same id, so that what voided it holds."""


NEW = ("test", "unit", "estimand", "most_per_group", "groups", "level", "seal")
"""Fields that certificates of :data:`OLD_TEST` do not have in a file."""


OPTIONAL = frozenset({"slices", "anchors"})
"""Fields that stand in a file only where they say something."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Among accepted answers at most ``alpha`` are wrong, with confidence 1 - ``delta``.

    Args:
        id: ``c-`` and a hash of what it says (:data:`SAYS`); of all fields in an old one.
        alpha: error rate promised, 0 to 1.
        delta: chance, over calibration data, that this promise or another on the same data is
            broken.
        n: accepted answers that it was tested on.
        k: how many of them were wrong.
        threshold: an answer is accepted when its risk is at most this.
        self_consistency: mode of the policy that was tested.
        samples: sampled answers per question in that policy; 0 in mode ``never``.
        bundle: id of the bundle that gave the risks.
        model: revision of the model.
        data: fingerprint of the calibration answers.
        created: ISO 8601 with offset.
        expires: likewise.
        slices: the slices whose answers it is about; None for those of all slices together.
        test: ``betting``, or ``binomial`` for the old kind.
        unit: what was drawn independently: ``group``; ``image`` for the old kind, and where no
            answer of the evidence named its group, so that frames of one scene count as many.
        estimand: a key of :data:`ESTIMANDS`.
        most_per_group: answers of a group that count.
        groups: that were tested, with or without accepted answers; None in an old one.
        level: of its test: its share of delta.
        anchors: a sketch by which the calibration data are recognised, as
            :func:`probes.guarantee.ledger.anchors` has it; None for answers from records,
            and in certificates of before.
        seal: hash of all other fields, so that no number in it can be edited; the id of an old one
            is that.
    """

    id: str
    alpha: float
    delta: float
    n: int
    k: int
    threshold: float
    self_consistency: ConsistencyMode
    samples: int
    bundle: str
    model: str
    data: str
    created: str
    expires: str
    slices: tuple[str, ...] | None = None
    test: str = OLD_TEST
    unit: str = "image"
    estimand: str = "random_question_of_random_image"
    most_per_group: int = 1
    groups: int | None = None
    level: float | None = None
    seal: str | None = None
    anchors: tuple[str, ...] | None = None

    @property
    def old(self) -> bool:
        """Whether it tested one answer per image, as older versions did."""
        return self.test == OLD_TEST

    @property
    def known_by(self) -> frozenset[str]:
        """Names of its data; the data of two certificates that share a name overlap."""
        return frozenset((self.data, *(self.anchors or ())))

    @property
    def scope(self) -> Scope:
        """Whose answers the promise is about."""
        if self.slices is None:
            return "all"
        return "own" if len(self.slices) == 1 else "pooled"

    def expired(self, now: datetime) -> bool:
        """Return whether ``now`` (with a time zone) is at or past the end."""
        return now >= datetime.fromisoformat(self.expires)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``slices`` and ``anchors`` appear only when they are not None."""
        plain = dataclasses.asdict(self)
        if self.old:
            for name in NEW:
                del plain[name]
        said = {name: plain.pop(name) for name in OPTIONAL}
        return plain | {name: list(value) for name, value in said.items() if value is not None}

    @classmethod
    def sealed(cls, **fields: Any) -> Certificate:
        """Make a certificate of the other fields, in plain JSON, with its id and seal."""
        named = {**fields, "id": _certificate_id(fields)}
        return cls.from_dict({**named, "seal": _seal(named)} if "test" in fields else named)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Certificate:
        """Read what :meth:`to_dict` wrote, of this kind or the old one.

        Raises BundleError for a field that is none of a certificate's, or that was changed.
        """
        expected = {field.name for field in dataclasses.fields(cls)} - OPTIONAL
        if "test" not in fields:
            expected -= set(NEW)
        if set(fields) - OPTIONAL != expected:
            odd = min((set(fields) - OPTIONAL) ^ expected)
            raise BundleError(f"certificate.{odd}", "missing or unknown; certify again")
        if fields.get("estimand", "accepted_answer") not in ESTIMANDS:
            raise BundleError("certificate.estimand", "is unknown; certify again")
        lists = {
            name: tuple(found) if isinstance(found := fields[name], list) else found
            for name in OPTIONAL & set(fields)
        }
        typed = {**fields, **lists}
        for name, hint in get_type_hints(cls).items():
            if name in typed and not fits(typed[name], hint):
                raise BundleError(f"certificate.{name}", f"is {typed[name]!r}; certify again")
        certificate = cls(**typed)
        for name in ("created", "expires"):
            _check_moment(f"certificate.{name}", typed[name])
        if certificate.id != _certificate_id(fields):
            raise BundleError("certificate.id", "does not fit the other fields; certify again")
        if not certificate.old and certificate.seal != _seal(fields):
            raise BundleError("certificate.seal", "does not fit the other fields; certify again")
        return certificate


def _check_moment(name: str, text: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BundleError(name, f"is {text!r}, no time; certify again") from error
    if moment.tzinfo is None:
        raise BundleError(name, f"is {text!r}, without its time zone; certify again")


@dataclass(frozen=True, slots=True)
class NoCertificate:
    """Nothing can be promised. All but the first two are None in bundles of older versions.

    Args:
        reason: ``too_few_answers`` (they err less than alpha, and are too few to show it) or
            ``error_rate_too_high`` (they do not even err less).
        answers: that the policy could have accepted.
        groups: that were tested.
        threshold: the first one, at which the test failed; None where no answer can be accepted.
        n: answers accepted there. k: how many of them were wrong.
        level: of the test: its share of delta.
        delta: of the promise.
        more_groups: about how many groups more would do; None where more would not.
    """

    reason: Literal["too_few_answers", "error_rate_too_high"]
    answers: int
    groups: int | None = None
    threshold: float | None = None
    n: int | None = None
    k: int | None = None
    level: float | None = None
    delta: float | None = None
    more_groups: int | None = None

    def told(self) -> str:
        """Describe in words what was tested."""
        words = self.reason.replace("_", " ")
        if self.groups is None or self.level is None or self.delta is None:
            return words
        if self.threshold is None:
            return f"{words}: of {self.groups} groups no answer can be accepted"
        words += f": {self.k} of {self.n} wrong at the first threshold, in {self.groups} groups"
        if self.level != self.delta:
            words += f", tested at {self.level:.4g} of delta {self.delta:g}"
        return words if self.more_groups is None else f"{words}; about {self.more_groups} more do"


def _certificate_id(fields: Mapping[str, Any]) -> str:
    if "test" in fields:
        return f"c-{_hash({name: fields[name] for name in SAYS if name in fields})}"
    return f"c-{_hash({name: value for name, value in fields.items() if name != 'id'})}"


def _seal(fields: Mapping[str, Any]) -> str:
    return _hash({name: value for name, value in fields.items() if name != "seal"})


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
