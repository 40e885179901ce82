"""The application: routes on a gate, and the gate's life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware import Middleware

from probes.model.bundle import Bundle
from service import __version__
from service.access.authenticator import Authenticator
from service.access.key_file import Scope
from service.engines.base import Engine
from service.gate.gate import Gate
from service.gate.rules import load_rules
from service.http import problems
from service.http.authentication import Authentication, ScopeNeeded
from service.http.idempotency import MOST_ANSWERS, Replies
from service.http.openai_errors import OpenAIErrors
from service.http.request_log import RequestLog
from service.http.response_headers import ResponseHeaders, cors
from service.http.routes import answer, batch, chat, health, metrics, policy, records
from service.observe.gauges import Gauges
from service.observe.telemetry import Telemetry
from service.observe.tracing import Tracing, tracer_provider
from service.settings import Settings


def create_app(settings: Settings, engine: Engine, bundle: Bundle) -> FastAPI:
    """The service around an engine that is not started yet.

    The engine starts and the bundle is checked against it before the first request is taken; the
    self-test runs after that, and ``/readyz`` tells how it went.

    Raises:
        SettingsError: keys are asked for, and cannot be had.
        RecordsError: the records' settings cannot be used.
        BundleError: the policy or the candidate of the settings cannot be used.
    """
    tracers = tracer_provider()
    app = FastAPI(
        title="vlm-gate",
        version=__version__,
        description="Answers about images, each with a calibrated risk that it is wrong.",
        lifespan=_lifespan,
        middleware=[  # outermost first
            Middleware(ResponseHeaders),
            Middleware(Tracing, provider=tracers),
            Middleware(OpenAIErrors),
            Middleware(RequestLog),
            *cors(settings.cors_origins),
            Middleware(Authentication, authenticator=Authenticator.from_settings(settings)),
        ],
        redirect_slashes=False,  # such a redirect would name the host that the caller claimed
    )
    rules = load_rules(settings, bundle)
    telemetry = Telemetry(rules.thresholds(), settings.mode, settings.metrics_slices)
    app.state.gate = Gate(settings, engine, rules, telemetry)
    app.state.telemetry, app.state.tracers = telemetry, tracers
    telemetry.registry.register(Gauges(app.state.gate))
    app.state.replies = Replies(settings.idempotency_seconds, MOST_ANSWERS)
    app.state.batch_slots = asyncio.Semaphore(settings.batch_concurrency)
    problems.install(app)
    _add_routes(app, settings)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gate: Gate = app.state.gate
    await gate.start()
    test = asyncio.create_task(gate.test())
    try:
        yield
    finally:
        test.cancel()
        await gate.close()
        if app.state.tracers is not None:
            await asyncio.to_thread(app.state.tracers.shutdown)


def _add_routes(app: FastAPI, settings: Settings) -> None:
    """Each router with the scope that it needs."""
    scopes: list[tuple[APIRouter, Scope]] = [
        (answer.router, "answer"),
        (batch.router, "answer"),
        (chat.router, "answer"),
        (policy.router, "answer"),
        (policy.admin, "admin"),
        (records.router, "review"),
    ]
    app.router.routes.extend(answer.DIRECT)
    for router, scope in scopes:
        app.include_router(
            router,
            dependencies=[Depends(ScopeNeeded(scope))],
            responses=problems.problem_responses((400, 401, 403)),
        )
    app.include_router(health.router)
    if settings.metrics_port is None:
        app.include_router(metrics.router)
