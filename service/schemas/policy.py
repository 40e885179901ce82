"""A policy as an operator writes it: the body of ``PUT /v1/policy``, or a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.policy import Policy
from probes.types import ConsistencyMode, SmallSlices

Signal = Literal[
    "hidden_state_probe", "token_confidence", "self_consistency", "attention", "evidence", "domain",
    "question_kind",
]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]


class PolicyRequest(BaseModel):
    """When an answer is accepted, rejected, or goes to a person."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["certified", "manual"] = Field(
        description="certified: accept_below comes from the certificate and cannot be set here; "
        "manual: both thresholds are set here, and no certificate applies"
    )
    accept_below: Share | None = Field(
        None, description="manual only: accept risks at or below it; null accepts none"
    )
    reject_above: Share | None = Field(
        None, description="manual only: reject risks above it; null rejects none"
    )
    required: list[Signal] | None = Field(
        None,
        max_length=len(get_args(Signal)),
        description="signals without which nothing is accepted; by default the bundle's, and with "
        "certified no others",
    )
    self_consistency: ConsistencyMode | None = Field(
        None, description="the mode of a request that does not choose; by default the bundle's"
    )
    small_slices: SmallSlices | None = Field(
        None,
        description="slices too small for a test of their own: pooled (the certificate that they "
        "share) or own_or_escalate (none); by default the bundle's",
    )

    def to_policy(self, bundle: Bundle) -> Policy:
        """The policy, checked against what the bundle's certificates cover.

        Raises BundleError naming the field.
        """
        own = bundle.policy
        required = own.required if self.required is None else tuple(dict.fromkeys(self.required))
        mode = self.self_consistency or own.self_consistency
        small = self.small_slices or own.small_slices
        if self.policy == "certified":
            self._check_certified(own, required)
            return Policy("certified", None, own.reject_above, required, mode, small)
        for name in ("accept_below", "reject_above"):
            if name not in self.model_fields_set:
                raise BundleError(
                    name, "is missing; a manual policy sets both thresholds (null for none)"
                )
        try:
            return Policy("manual", self.accept_below, self.reject_above, required, mode, small)
        except ValueError as error:
            raise BundleError("reject_above", f"{error}; correct one of them") from error

    def _check_certified(self, own: Policy, required: tuple[str, ...]) -> None:
        if self.accept_below is not None:
            raise BundleError(
                "accept_below",
                "comes from the certificate and cannot be set; leave it out, or send "
                '"policy": "manual", which no certificate covers',
            )
        if "reject_above" in self.model_fields_set and self.reject_above != own.reject_above:
            raise BundleError(
                "reject_above",
                f"the certificates cover {own.reject_above} alone; leave it out, certify a bundle "
                'with the other one, or send "policy": "manual"',
            )
        if lost := sorted(set(own.required) - set(required)):
            raise BundleError(
                "required",
                f'the certificates need {lost}; add them, or send "policy": "manual"',
            )
        if more := sorted(set(required) - set(own.required)):
            raise BundleError(
                "required",
                f"the certificates were tested without {more}, and say nothing of the answers that "
                'would be left; leave it out, or send "policy": "manual"',
            )


def read_policy(file: Path, bundle: Bundle) -> Policy:
    """The policy in a TOML file. Raises BundleError naming the file and the field.

    TOML has no null: a threshold that is left out of a manual policy is none.
    """
    try:
        fields = tomllib.loads(file.read_text())
        if fields.get("policy") == "manual":
            fields = {"accept_below": None, "reject_above": None, **fields}
        return PolicyRequest.model_validate(fields).to_policy(bundle)
    except OSError as error:
        raise BundleError(str(file), f"cannot be read ({error.strerror}); correct it") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{file}: {name}", f"{first['msg']}; correct it") from error
    except ValueError as error:  # tomllib, or no text
        raise BundleError(str(file), f"is not TOML: {error}; correct it") from error
    except BundleError as error:
        raise BundleError(f"{file}: {error.field}", error.message) from error
