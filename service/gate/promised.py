"""What a bundle promises of its accepted answers, and on which data that rests."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

from probes.model.bundle import Bundle
from probes.model.certificate import FROM_RECORDS, Certificate
from probes.types import PolicyMode
from service.records.audits import Claim
from service.records.certificates import Loaded
from service.records.voids import Change

UNTESTED = (0.5, 0.05)
"""Alpha and delta where no certificate is in force: only the interval, at 95 %, is of use."""


@dataclass(frozen=True)
class Promised:
    """The certificates that a bundle serves with under a policy.

    Args:
        bundle: its id.
        certified: its certificates; none where the policy is a manual one.
    """

    bundle: str
    certified: tuple[Certificate, ...]

    @classmethod
    def of(cls, bundle: Bundle, mode: PolicyMode | None) -> Promised:
        """What a bundle promises under a policy's ``mode``, by default its own policy's."""
        found = (*bundle.certificates.values(), *bundle.slice_certificates.values())
        return cls(bundle.id, found if (mode or bundle.policy.mode) == "certified" else ())

    @cached_property
    def certificates(self) -> frozenset[str]:
        """Their ids."""
        return frozenset(one.id for one in self.certified)

    @cached_property
    def rates(self) -> tuple[float, float]:
        """Alpha and delta of the test."""
        return min(((one.alpha, one.delta) for one in self.certified), default=UNTESTED)

    @cached_property
    def data(self) -> frozenset[str]:
        """The data that they were certified on."""
        return frozenset(name for one in self.certified for name in one.known_by)

    @cached_property
    def claims(self) -> frozenset[Claim]:
        """The claims that answers are accepted under; without a certificate, the bundle alone."""
        return frozenset((self.bundle, name) for name in self.certificates or {None})

    def loaded(self, known: AbstractSet[Claim]) -> list[Loaded]:
        """The certificates to write down as loaded: those that are not ``known`` yet."""
        return [
            Loaded((self.bundle, one.id), one.known_by, *self.rates)
            for one in self.certified
            if (self.bundle, one.id) not in known
        ]

    def siblings(self, known: Mapping[Claim, Loaded]) -> dict[Claim, float]:
        """Other certificates on the same data that a service has loaded, with their alphas."""
        return {
            claim: one.alpha
            for claim, one in known.items()
            if claim not in self.claims and not one.data.isdisjoint(self.data)
        }

    def concerned_by(self, void: Change) -> bool | None:
        """Whether a void is that of a certificate here, or of one on the same data.

        None where the records must tell whether the void's certificate is the bundle's: a version
        before 0007 did not write down the data. There a bundle can be certified on one run alone,
        so all its certificates but those from records are on the same data.
        """
        if void.certificate in self.certificates:
            return True
        if void.data:
            return not void.data.isdisjoint(self.data)
        if void.bundle is not None or any(name.startswith(FROM_RECORDS) for name in self.data):
            return False
        return None
