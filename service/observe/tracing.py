"""OpenTelemetry traces of requests, and the W3C trace context that passes through them.

Exported by OTLP over HTTP, only where the standard ``OTEL_*`` variables name an endpoint. A span
holds numbers, names and the decision: never a question, an answer or an image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from probes.types import Missing
from service import __version__
from service.gate.stages import Stages
from service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from probes.types import ModelIdentity
    from service.gate.ask import Outcome

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
UNTRACED = ("/healthz", "/readyz", "/metrics", "/v2/health/")
SPAN_NAMES = {"measure": "score"}
"""Stages whose span has another name; the rest are named as the stage."""

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def tracer_provider() -> TracerProvider | None:
    """What exports the spans, or None where no endpoint is configured.

    Raises:
        SettingsError: the endpoint wants another protocol than http/protobuf.
    """
    configured = any(os.environ.get(name) for name in ENDPOINTS)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not configured or disabled or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    for name in PROTOCOLS:
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            raise SettingsError(
                f"{name} is {os.environ[name]}, which is not spoken; set it to http/protobuf "
                "and name the collector's HTTP port (usually 4318)"
            )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    own = {"service.version": __version__} | ({} if named else {"service.name": "vlm-gate"})
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class RequestSpan:
    """The span of one request, or of one line of a batch; its stages become children."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self.span = span
        self._tracer = tracer

    def line(self, number: int) -> RequestSpan:
        """A child for one line of a batch."""
        context = trace.set_span_in_context(self.span)
        attributes = {"vlm_gate.line": number}
        span = self._tracer.start_span("line", context, attributes=attributes)
        return RequestSpan(self._tracer, span)

    def end(self, state: Mapping[str, Any], model: ModelIdentity) -> None:
        """Add the stages that were gone through, what was decided if it came to that, and end.

        Args:
            state: of the request: ``id``, and as far as it came ``stages``, ``outcome``, ``kind``.
            model: what was asked.
        """
        if self.span.is_recording():
            outcome: Outcome | None = state.get("outcome")
            stages: Stages = state.get("stages", Stages())
            self.span.set_attribute("vlm_gate.id", state["id"])
            if "kind" in state:
                self.span.set_attribute("error.type", state["kind"])
            self._tell_stages(stages, outcome, model, state["id"])
            if outcome is not None:
                self._tell_decision(outcome)
        self.span.end()

    def _tell_stages(
        self, stages: Stages, outcome: Outcome | None, model: ModelIdentity, request_id: str
    ) -> None:
        context = trace.set_span_in_context(self.span)
        for stage, started, ended in stages.spans:
            name = SPAN_NAMES.get(stage, stage)
            child = self._tracer.start_span(name, context, start_time=started)
            if stage == "generate":
                _tell_generation(child, outcome, model, request_id)
            child.end(ended)

    def _tell_decision(self, outcome: Outcome) -> None:
        decision, score = outcome.decision, outcome.assessment.score
        self.span.set_attribute("vlm_gate.decision", decision.decision)
        self.span.set_attribute("vlm_gate.reason", decision.reason)
        if not isinstance(score, Missing):
            self.span.set_attribute("vlm_gate.risk", score)
        if decision.certificate is not None:
            self.span.set_attribute("vlm_gate.certificate", decision.certificate)


def _tell_generation(
    span: Span, outcome: Outcome | None, model: ModelIdentity, request_id: str
) -> None:
    span.set_attributes(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vlm_gate",
            "gen_ai.request.model": model.name,
            "gen_ai.output.type": "text",
        }
    )
    if outcome is None:
        span.set_status(Status(StatusCode.ERROR))
        return
    span.set_attributes(
        {
            "gen_ai.response.model": model.name,
            "gen_ai.response.id": request_id,
            "gen_ai.response.finish_reasons": [outcome.generation.finish_reason],
            "gen_ai.usage.output_tokens": len(outcome.generation.token_ids),
        }
    )


class Tracing:
    """ASGI middleware: one server span a request, and ``traceparent`` back.

    With a tracer the response's ``traceparent`` names this service's span; without one a valid
    ``traceparent`` goes back as it came.

    Args:
        provider: makes the spans; None makes none.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider | None) -> None:
        self.app = app
        self._tracer = None if provider is None else provider.get_tracer("vlm-gate", __version__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UNTRACED):
            await self.app(scope, receive, send)
            return
        came = Headers(scope=scope)
        span = None if self._tracer is None else _start(self._tracer, scope["method"], came)
        traceparent = came.get("traceparent", "") if span is None else _header(span)
        valid = _TRACEPARENT.fullmatch(traceparent) is not None
        if valid and int(traceparent[-2:], 16) & 1:  # sampled: whoever looks for it will find it
            scope.setdefault("state", {})["trace_id"] = traceparent[3:35]
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if valid:
                    added = (b"traceparent", traceparent.encode())
                    message["headers"] = [*message["headers"], added]
            await send(message)

        if span is None or self._tracer is None:
            await self.app(scope, receive, note)
            return
        scope.setdefault("state", {})["span"] = told = RequestSpan(self._tracer, span)
        try:
            await self.app(scope, receive, note)
        finally:
            _tell_http(span, scope, status)
            told.end(scope["state"], scope["app"].state.gate.bundle.model)


def _start(tracer: Tracer, method: str, headers: Headers) -> Span:
    parent = TraceContextTextMapPropagator().extract(dict(headers))
    return tracer.start_span(method, parent, SpanKind.SERVER, start_time=time_ns())


def _header(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _tell_http(span: Span, scope: Scope, status: int) -> None:
    """The route's template names it: the path as sent may hold what a user wrote."""
    route = getattr(scope.get("route"), "path", None)
    method = scope["method"]
    span.update_name(method if route is None else f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.response.status_code", status)
    if route is not None:
        span.set_attribute("http.route", route)
    if status >= 500 or status == 0:
        span.set_status(Status(StatusCode.ERROR))
