"""``GET /v1/policy``: the rules in force."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.gate import Gate
from service.schemas import PolicyResponse, certificate_body, model_body

router = APIRouter(tags=["policy"])


@router.get("/v1/policy", summary="Thresholds, required signals and certificates in force")
async def get_policy(request: Request) -> PolicyResponse:
    """What decides now."""
    gate: Gate = request.app.state.gate
    policy, thresholds = gate.bundle.policy, gate.thresholds()
    return PolicyResponse(
        policy=policy.mode,
        mode=gate.settings.mode,
        accept_below=thresholds.get("accept_below"),
        reject_above=thresholds.get("reject_above"),
        required=list(policy.required),
        self_consistency=policy.self_consistency,
        samples=gate.bundle.generation.samples,
        certificates={mode: certificate_body(c) for mode, c in gate.certificates().items()},
        bundle=gate.bundle.id,
        model=model_body(gate.bundle.model),
    )
