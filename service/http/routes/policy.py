"""``/v1/policy`` and ``/v1/bundle:reload``: the rules in force, and putting others there."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.gate.gate import Gate
from service.gate.reload import reload_bundle, replace_policy
from service.http.body import read_small_body
from service.http.json_body import read_model
from service.http.openapi import request_body
from service.http.problems import problem_responses
from service.http.translate import to_policy_response
from service.schemas.policy import PolicyRequest, PolicyResponse

router = APIRouter(tags=["policy"])
admin = APIRouter(tags=["policy"])


@router.get("/v1/policy", summary="Thresholds, required signals and certificates in force")
async def get_policy(request: Request) -> PolicyResponse:
    """What decides now."""
    gate: Gate = request.app.state.gate
    return to_policy_response(gate.rules, gate.settings.mode)


@admin.put(
    "/v1/policy",
    responses=problem_responses((413, 422, 503)),
    openapi_extra=request_body({"application/json": PolicyRequest}),
    summary="Put another policy in force until the next reload or restart",
)
async def put_policy(request: Request) -> PolicyResponse:
    """What decides from now on. Requests that began before keep the policy that they began with."""
    gate: Gate = request.app.state.gate
    asked = read_model(PolicyRequest, await read_small_body(request, gate))
    rules = await replace_policy(gate, asked)
    return to_policy_response(rules, gate.settings.mode)


@admin.post(
    "/v1/bundle:reload",
    responses=problem_responses((422, 503)),
    summary="Read bundle, policy file and candidate again, as a start does",
)
async def post_reload(request: Request) -> PolicyResponse:
    """What decides from now on; after an error it is what decided before."""
    gate: Gate = request.app.state.gate
    rules = await reload_bundle(gate)
    return to_policy_response(rules, gate.settings.mode)
