"""A policy from outside -> the policy that decides, checked against what certificates cover."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.policy import Policy
from service.schemas.policy import PolicyRequest


def read_policy(file: Path, bundle: Bundle) -> Policy:
    """The policy in a TOML file. Raises BundleError naming the file and the field.

    TOML has no null: a threshold that is left out of a manual policy is none.
    """
    try:
        fields = tomllib.loads(file.read_text())
        if fields.get("policy") == "manual":
            fields = {"accept_below": None, "reject_above": None, **fields}
        return to_policy(PolicyRequest.model_validate(fields), bundle)
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


def to_policy(asked: PolicyRequest, bundle: Bundle) -> Policy:
    """The policy that an operator asks for, with the bundle's own where they left the choice.

    Raises BundleError naming the field: the bundle's certificates do not cover it.
    """
    own = bundle.policy
    required = own.required if asked.required is None else tuple(dict.fromkeys(asked.required))
    mode = asked.self_consistency or own.self_consistency
    small = asked.small_slices or own.small_slices
    if asked.policy == "certified":
        _check_certified(asked, own, required)
        return Policy("certified", None, own.reject_above, required, mode, small)
    for name in ("accept_below", "reject_above"):
        if name not in asked.model_fields_set:
            raise BundleError(
                name, "is missing; a manual policy sets both thresholds (null for none)"
            )
    try:
        return Policy("manual", asked.accept_below, asked.reject_above, required, mode, small)
    except ValueError as error:
        raise BundleError("reject_above", f"{error}; correct one of them") from error


def _check_certified(asked: PolicyRequest, own: Policy, required: tuple[str, ...]) -> None:
    if asked.accept_below is not None:
        raise BundleError(
            "accept_below",
            "comes from the certificate and cannot be set; leave it out, or send "
            '"policy": "manual", which no certificate covers',
        )
    if "reject_above" in asked.model_fields_set and asked.reject_above != own.reject_above:
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
