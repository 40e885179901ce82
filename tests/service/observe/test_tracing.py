"""Traces as a collector gets them, and the W3C trace context on its way through."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.engines.base import EngineError
from service.observe.tracing import tracer_provider
from service.settings import SettingsError

pytestmark = pytest.mark.anyio
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CAME = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "line=3"}


class Collector:
    """Takes OTLP over HTTP and keeps what it was sent."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.append(self.path)
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def requests(self) -> list[Any]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    def value(told: Any) -> Any:
        kind = told.WhichOneof("value")
        if kind == "array_value":
            return [value(one) for one in told.array_value.values]
        return getattr(told, kind)

    return {pair.key: value(pair.value) for pair in span.attributes}


async def ask(client: Any, png: bytes, **headers: str) -> Any:
    return await client.post(
        "/v1/answer",
        data={"question": "Is the secret valve open?", "self_consistency": "always"},
        files={"image": ("secret.png", png)},
        headers=headers,
    )


async def test_a_request_is_one_trace_of_the_callers(serve, collector, png):
    async with serve() as client:
        reply = await ask(client, png, **CAME)
        await client.get("/healthz")
    spans = collector.spans()
    (root,) = [span for span in spans if span.name == "POST /v1/answer"]
    children = [span for span in spans if span is not root]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert root.trace_state == "line=3"
    assert reply.headers["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01"
    names = [span.name for span in sorted(children, key=lambda span: span.start_time_unix_nano)]
    assert names == ["queue", "decode", "generate", "score", "sample", "decide"]
    for span in children:
        assert (span.trace_id, span.parent_span_id) == (root.trace_id, root.span_id)
        assert root.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano

    told = reply.json()
    about = attributes(root)
    assert about["http.route"] == "/v1/answer"
    assert about["http.response.status_code"] == 200
    assert (about["vlm_gate.decision"], about["vlm_gate.reason"]) == (
        told["decision"], told["reason"],
    )  # fmt: skip
    assert about["vlm_gate.risk"] == told["risk"]["score"]
    assert about["vlm_gate.id"] == told["id"]
    generate = attributes(next(span for span in children if span.name == "generate"))
    assert generate == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vlm_gate",
        "gen_ai.request.model": "fake",
        "gen_ai.response.model": "fake",
        "gen_ai.response.id": told["id"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.output.type": "text",
    }


async def test_the_resource_is_named_and_nothing_a_user_sent_is_exported(
    serve, collector, png, monkeypatch
):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=hall-3")
    async with serve() as client:
        await ask(client, png)
        await client.post("/v1/secret-path", content=b"secret")
    (request,) = collector.requests()
    resource = attributes(request.resource_spans[0].resource)
    assert resource["service.name"] == "vlm-gate"
    assert resource["deployment.environment"] == "hall-3"
    assert set(collector.paths) == {"/v1/traces"}
    exported = b"".join(collector.bodies)
    assert b"vlm_gate.decision" in exported
    for private in (b"secret", b"valve", b"yes", png[:16], base64.b64encode(png)[:16]):
        assert private not in exported


async def test_the_operators_own_names_win(serve, collector, png, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "line-3")
    async with serve() as client:
        await ask(client, png)
    (request,) = collector.requests()
    assert attributes(request.resource_spans[0].resource)["service.name"] == "line-3"


async def test_an_error_is_in_the_trace_by_its_kind(serve, collector, engine, png):
    async with serve() as client:
        engine.failure = EngineError("CUDA error: secret")
        await ask(client, png)
    spans = collector.spans()
    root = next(span for span in spans if span.name == "POST /v1/answer")
    assert root.status.code == 2
    assert attributes(root)["error.type"] == "engine_error"
    assert {span.name for span in spans} == {"POST /v1/answer", "queue", "decode", "generate"}
    assert b"secret" not in b"".join(collector.bodies)


async def test_each_line_of_a_batch_has_its_span(serve, collector, png):
    image = base64.b64encode(png).decode()
    lines = [json.dumps({"question": f"{n}?", "image": image}) for n in range(2)]
    async with serve() as client:
        await client.post(
            "/v1/answers:batch",
            content="\n".join([*lines, "{"]),
            headers={"content-type": "application/jsonl"} | CAME,
        )
    spans = collector.spans()
    root = next(span for span in spans if span.name == "POST /v1/answers:batch")
    by_line = {attributes(s)["vlm_gate.line"]: s for s in spans if s.name == "line"}
    assert sorted(by_line) == [1, 2, 3]
    found = [by_line[number] for number in (1, 2, 3)]
    assert all(span.parent_span_id == root.span_id for span in found)
    assert attributes(found[2])["error.type"] == "malformed_json"
    parents = [span.parent_span_id for span in spans if span.name == "generate"]
    assert sorted(parents) == sorted(span.span_id for span in found[:2])


async def test_what_the_caller_does_not_sample_is_not_exported(serve, collector, png):
    async with serve() as client:
        reply = await ask(client, png, traceparent=f"00-{TRACE}-{PARENT}-00")
    assert reply.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert reply.headers["traceparent"].endswith("-00")
    assert collector.spans() == []


@pytest.mark.parametrize("bad", ["", "00-zz", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-01"])
async def test_a_broken_traceparent_starts_a_new_trace(serve, collector, png, bad):
    async with serve() as client:
        reply = await ask(client, png, traceparent=bad)
    root = next(span for span in collector.spans() if span.name == "POST /v1/answer")
    assert reply.headers["traceparent"].split("-")[1] == root.trace_id.hex() != TRACE
    assert root.parent_span_id == b""


async def test_without_an_endpoint_nothing_is_traced_and_the_context_passes_through(serve, png):
    async with serve() as client:
        reply = await ask(client, png, **CAME)
        broken = await ask(client, png, traceparent="secret")
        without = await ask(client, png)
    assert reply.headers["traceparent"] == CAME["traceparent"]
    assert "traceparent" not in broken.headers
    assert "traceparent" not in without.headers


async def test_a_collector_that_is_away_harms_no_answer(serve, png, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with serve() as client:
        assert (await ask(client, png)).status_code == 200


def test_the_standard_variables_decide(monkeypatch):
    assert tracer_provider() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracer_provider() is None
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert tracer_provider() is None
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingsError, match="set it to http/protobuf"):
        tracer_provider()
