"""What training leaves and serving loads.

A bundle is a folder of ``manifest.json``, ``tensors.safetensors``, ``golden/*.png`` and
``SHA256SUMS`` (see :mod:`probes.model.folder`). Nothing in it can be executed. Its id is a hash of
everything that makes a risk, so equal trainings give the same id; certificates name that id and
stand outside of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from probes.errors import BundleError
from probes.model.certificate import Certificate, NoCertificate
from probes.model.policy import Policy
from probes.model.probe import LinearProbe
from probes.model.risk import RiskModel
from probes.model.slicing import Slicing
from probes.signals.domain import DomainModel
from probes.signals.question import QuestionModel
from probes.signals.question_kind import KindModel
from probes.types import (
    ConsistencyMode,
    FloatArray,
    GenerationSettings,
    Interval,
    Missing,
    ModelIdentity,
    Position,
    Query,
    Readout,
    RiskAssessment,
    Signals,
)

NO_QUESTION_SIDE = Missing("no_question_side")
"""Of bundles that were trained before there was one."""


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A question with what the engine must read again before it may serve.

    Args:
        query: image, question and length limit.
        answer: the greedy answer.
        readouts: as in a trace: per (layer, position) the projected state, shape (1 + components,).
    """

    query: Query
    answer: str
    readouts: Mapping[tuple[int, Position], FloatArray]


@dataclass(frozen=True, slots=True)
class CertificateAttempt:
    """One attempt at a certificate, and its outcome.

    Args:
        slices: whose answers it is about; None for all slices together.
        observed: of several slices under one certificate, the error rate among the answers that it
            accepts of each alone, as calibration saw it, with a 95 % interval.
    """

    alpha: float
    self_consistency: ConsistencyMode
    outcome: Certificate | NoCertificate
    slices: tuple[str, ...] | None = None
    observed: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything the gate needs besides the model.

    Args:
        id: ``b-`` and a hash of the content.
        model: what it is bound to.
        generation: how answers were generated.
        attention_layers: decoder layers whose attention is reported.
        probe: on the hidden state.
        stage_one: risk without self-consistency.
        stage_two: risk with it, or why there is none.
        domain: of validity, the image side.
        policy: what was certified; the default of the service.
        alpha: the error rate whose certificates serve, or ``None`` before ``certify``.
        attempts: every certificate tried for.
        golden: for the parity self-test.
        data: fingerprint of the store it was trained on.
        training: how it was trained: splits, candidates, inputs (plain JSON).
        slicing: the field that certificates per slice go by, where there are any.
        kinds: tells the question's kind, where a risk reads it.
        loosened_from: the alpha before ``recertify --loosen`` put a larger one in its place.
        questions: the domain's question side, or why there is none.
    """

    id: str
    model: ModelIdentity
    generation: GenerationSettings
    attention_layers: tuple[int, ...]
    probe: LinearProbe
    stage_one: RiskModel
    stage_two: RiskModel | Missing
    domain: DomainModel
    policy: Policy
    alpha: float | None
    attempts: tuple[CertificateAttempt, ...]
    golden: tuple[Golden, ...]
    data: str
    training: Mapping[str, Any]
    slicing: Slicing | None = None
    kinds: KindModel | None = None
    loosened_from: float | None = None
    questions: QuestionModel | Missing = NO_QUESTION_SIDE

    @cached_property
    def readout(self) -> Readout:
        """What the engine reads for every answer."""
        return Readout(
            layers=(self.probe.layer,),
            positions=(self.probe.position,),
            projections={self.probe.layer: self.probe.projection},
            attention_layers=self.attention_layers,
        )

    @cached_property
    def certificates(self) -> Mapping[ConsistencyMode, Certificate]:
        """The certificates that serve requests of no named slice, one per self-consistency mode."""
        return {
            attempt.self_consistency: attempt.outcome
            for attempt in self._serving
            if attempt.slices is None and isinstance(attempt.outcome, Certificate)
        }

    @cached_property
    def slice_certificates(self) -> Mapping[tuple[ConsistencyMode, str], Certificate]:
        """Certificates for requests of a slice, by mode and slice; small slices may share one."""
        return {
            (attempt.self_consistency, name): attempt.outcome
            for attempt in self._serving
            for name in attempt.slices or ()
            if isinstance(attempt.outcome, Certificate)
        }

    def observed_slices(self, mode: ConsistencyMode) -> Mapping[str, Interval]:
        """Return the calibration error rates of the slices that share this mode's certificate."""
        return {
            name: seen
            for attempt in self._serving
            if attempt.self_consistency == mode
            for name, seen in attempt.observed.items()
        }

    @property
    def _serving(self) -> tuple[CertificateAttempt, ...]:
        return tuple(attempt for attempt in self.attempts if attempt.alpha == self.alpha)

    def slice_of(self, metadata: Mapping[str, str]) -> str | None:
        """Return the slice that a request names, or None where certificates do not go by slice."""
        return None if self.slicing is None else metadata.get(self.slicing.key)

    def assess(self, signals: Signals) -> RiskAssessment:
        """Assess the risk of an answer.

        Stage two whenever self-consistency was asked for: if it then failed, the score is missing.
        """
        stage: Literal[1, 2] = 2
        model: RiskModel | Missing = self.stage_two
        if signals.self_consistency == Missing("not_requested"):
            stage, model = 1, self.stage_one
        score = model if isinstance(model, Missing) else model.assess(signals)
        return RiskAssessment(score, stage, signals)

    def certificate_for(
        self,
        policy: Policy,
        mode: ConsistencyMode,
        samples: int,
        *,
        shortened: bool,
        now: datetime,
        slice: str | None = None,
    ) -> Certificate | Missing:
        """Return the certificate that covers a request, or ``no_certificate``/``certificate_void``.

        It is ``manual_policy`` when the operator set the policy's thresholds.

        Args:
            policy: the one in force; with another ``reject_above`` or other required signals than
                the bundle's it is another composed policy, which nothing certifies.
            mode: the request's self-consistency. samples: how many answers it samples (planned).
            shortened: the answer was cut by a ``max_tokens`` below the bundle's.
            now: aware of its time zone; after the certificate's end it is void.
            slice: :meth:`slice_of` the request. A slice has its own certificate or shares one; one
                that calibration never saw, or whose test failed, has none. A shared one serves
                only where the policy says ``pooled``.
        """
        if policy.mode == "manual":
            return Missing("manual_policy")
        certificate = (
            self.certificates.get(mode)
            if slice is None
            else self.slice_certificates.get((mode, slice))
        )
        same = policy.reject_above == self.policy.reject_above and set(policy.required) == set(
            self.policy.required
        )
        if certificate is None or not same or shortened:
            return Missing("no_certificate")
        if certificate.scope == "pooled" and policy.small_slices == "own_or_escalate":
            return Missing("no_certificate")
        if mode != "never" and samples != certificate.samples:
            return Missing("no_certificate")
        if certificate.expired(now):
            return Missing("certificate_void")
        return certificate


def check_identity(bundle: Bundle, identity: ModelIdentity) -> None:
    """Raise BundleError naming the first field in which the loaded model is another one."""
    for part in fields(ModelIdentity):
        expected, found = getattr(bundle.model, part.name), getattr(identity, part.name)
        if expected != found:
            raise BundleError(
                f"model.{part.name}",
                f"the bundle was trained on {expected!r}, the engine runs {found!r}; "
                "load that model, or train a bundle for this one",
            )
