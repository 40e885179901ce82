"""The rules that decide: a bundle, a policy, and what audits say of the certificates.

A request keeps the rules that it began with, however long it takes and whatever replaces them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import structlog

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.certificate import ESTIMANDS, Certificate
from probes.model.folder import read_bundle
from probes.model.policy import Policy
from probes.readouts import SharedReadout
from probes.types import CONSISTENCY_MODES, ConsistencyMode, Generation, Missing, Readout
from service.gate.policy_file import read_policy
from service.gate.promise import Promise
from service.settings import PREFIX, Settings

log = structlog.get_logger("service.gate.rules")


@dataclass(frozen=True, eq=False)
class Rules:
    """A bundle with the policy in force.

    Args:
        bundle: probe, risk, certificates.
        policy: the bundle's own, or the operator's.
        promise: what the audits in the records say; None where there are none.
        candidate: other rules that are scored beside these and never decide.
    """

    bundle: Bundle
    policy: Policy
    promise: Promise | None = None
    candidate: Rules | None = None

    def warn(self) -> None:
        """Log where a certificate promises less than one would expect."""
        bundle = self.bundle
        if old := sorted({one.estimand for one in bundle.certificates.values() if one.old}):
            log.warning(
                "certificate_of_the_old_kind",
                bundle=bundle.id,
                estimand=old[0],
                means=ESTIMANDS[old[0]],
                mend="certify the bundle again",
            )
        if bundle.loosened_from is not None:
            log.warning(
                "certificate_loosened", alpha=bundle.alpha, loosened_from=bundle.loosened_from
            )

    @property
    def void(self) -> bool:
        """Whether audits have shown that the certificates do not hold."""
        return self.promise is not None and self.promise.void

    def certificate_for(
        self,
        mode: ConsistencyMode,
        samples: int,
        *,
        shortened: bool,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> Certificate | Missing:
        """The certificate that covers a request now, or why none does.

        As :meth:`probes.model.bundle.Bundle.certificate_for`; none counts while audits void it.

        Args:
            metadata: the caller's words about the request; they may name its slice.
        """
        found = self.bundle.certificate_for(
            self.policy,
            mode,
            samples,
            shortened=shortened,
            now=datetime.now(UTC),
            slice=self.bundle.slice_of(metadata),
        )
        if self.void and isinstance(found, Certificate):
            return Missing("certificate_void")
        return found

    def certificates(self) -> Mapping[ConsistencyMode, Certificate | Missing]:
        """Per self-consistency mode, the certificate for the bundle's own number of samples."""
        samples = self.bundle.generation.samples
        return {
            mode: self.certificate_for(mode, samples, shortened=False) for mode in CONSISTENCY_MODES
        }

    @property
    def certificate(self) -> Certificate | Missing:
        """The one of the default self-consistency mode."""
        return self.certificates()[self.policy.self_consistency]

    def thresholds(self) -> Mapping[str, float]:
        """Thresholds in force in the default mode, by name."""
        named = {
            "accept_below": self.policy.threshold(self.certificate),
            "reject_above": self.policy.reject_above,
        }
        return {name: value for name, value in named.items() if value is not None}

    @cached_property
    def _shared(self) -> SharedReadout | None:
        if self.candidate is None:
            return None
        return SharedReadout.of(self.bundle.readout, self.candidate.bundle.readout)

    @property
    def readout(self) -> Readout:
        """What the engine reads for these rules and for the candidate, in one pass."""
        return self.bundle.readout if self._shared is None else self._shared.whole

    def own(self, generation: Generation) -> Generation:
        """An answer with what these rules read of it."""
        return generation if self._shared is None else self._shared.part(generation, 0)

    def candidates(self, generation: Generation) -> Generation:
        """An answer with what the candidate reads of it."""
        assert self._shared is not None
        return self._shared.part(generation, 1)


def load_rules(settings: Settings, bundle: Bundle | None = None) -> Rules:
    """The rules that the settings name, from their files. Reads the disk: use a thread.

    Args:
        bundle: the settings' bundle where it was loaded before.

    Raises:
        BundleError: a file cannot be used; names the field.
    """
    bundle = _load(settings.bundle) if bundle is None else bundle
    policy = bundle.policy if settings.policy is None else read_policy(settings.policy, bundle)
    return Rules(bundle, policy, candidate=_load_candidate(settings, bundle))


def _load_candidate(settings: Settings, bundle: Bundle) -> Rules | None:
    if settings.shadow_bundle is None and settings.shadow_policy is None:
        return None
    candidate = bundle if settings.shadow_bundle is None else _load(settings.shadow_bundle)
    if candidate.generation != bundle.generation:
        raise BundleError(
            "generation",
            f"the candidate of {PREFIX}SHADOW_BUNDLE was made with other answers "
            f"({candidate.generation}, served are {bundle.generation}); compare it offline",
        )
    if settings.shadow_policy is None:
        return Rules(candidate, candidate.policy)
    return Rules(candidate, read_policy(settings.shadow_policy, candidate))


def _load(folder: Path) -> Bundle:
    try:
        return read_bundle(folder)
    except OSError as error:
        raise BundleError(str(folder), f"cannot be read ({error}); correct its rights") from error
