"""Replaces the rules while serving: checks them first, and keeps the old ones where a check fails.

Requests that began under the old rules end under them.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from probes.errors import BundleError
from service.engines.base import EngineError
from service.errors import Invalid, Unavailable
from service.gate.gate import Gate
from service.gate.parity import ParityError, check_parity
from service.gate.policy_file import to_policy
from service.gate.rules import Rules, load_rules
from service.records.errors import RecordsUnavailable
from service.schemas.policy import PolicyRequest

log = structlog.get_logger("service.gate.reload")


async def reload_bundle(gate: Gate) -> Rules:
    """Read bundle, policy and candidate again from the files that the settings name.

    Raises:
        Invalid: a file cannot be used, or the engine reads something else than it says.
        Unavailable: it cannot be tested now.
    """
    async with gate.changing:
        _check_settled(gate)
        try:
            rules = await gate.aside(lambda: load_rules(gate.settings))
            gate.check_identity(rules)
            await check_parity(gate.engine, rules)
        except BundleError as error:
            raise _refused(error.message, error.field) from error
        except ParityError as error:
            raise _refused(f"the parity self-test failed: {error}", "golden") from error
        except EngineError as error:
            raise Unavailable(
                f"the engine could not run the parity self-test ({error}); the bundle in force "
                "stays; try again",
                kind="reload_failed",
                retry_after=gate.admission.retry_after(),
            ) from error
        await _follow(gate, rules)
        gate.now_ready()
        return gate.rules


async def replace_policy(gate: Gate, asked: PolicyRequest) -> Rules:
    """Put another policy in force, with the present bundle and candidate.

    Raises Invalid naming the field, or Unavailable.
    """
    async with gate.changing:
        _check_settled(gate)
        try:
            policy = to_policy(asked, gate.bundle)
        except BundleError as error:
            raise Invalid(
                f"'{error.field}': {error.message}", field=error.field, kind="policy_refused"
            ) from error
        await _follow(gate, replace(gate.rules, policy=policy))
        return gate.rules


async def _follow(gate: Gate, rules: Rules) -> None:
    before = gate.rules
    rules = gate.with_promise(rules)
    if gate.record_keeping is not None and rules.promise is not None:
        try:
            await gate.record_keeping.read_promise(rules.promise)
        except RecordsUnavailable as error:
            raise Unavailable(
                "whether the new certificates hold stands in the records, which cannot be read "
                "now; what is in force stays; try again",
                kind="records_unavailable",
                retry_after=5,
            ) from error
    gate.follow(rules)
    log.warning(
        "rules_replaced",
        bundle=rules.bundle.id,
        policy=rules.policy.mode,
        before=before.bundle.id,
        policy_before=before.policy.mode,
        alpha=rules.bundle.alpha,
        alpha_before=before.bundle.alpha,
        loosened_from=rules.bundle.loosened_from,
    )
    rules.warn()


def _check_settled(gate: Gate) -> None:
    """Raise Unavailable while the service starts or ends."""
    if gate.state in {"starting", "draining"}:
        raise Unavailable(
            f"the service is {gate.state}; try again once GET /readyz says ready",
            kind="not_ready",
            retry_after=5,
        )


def _refused(detail: str, field: str) -> Invalid:
    return Invalid(
        f"{field}: {detail} (the bundle in force stays)", field=field, kind="bundle_refused"
    )
