"""``VLM_GATE_METRICS_PORT``: the metrics on a port of their own."""

from __future__ import annotations

import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from service.observe.metrics_port import metrics_port
from service.settings import Settings, SettingsError


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("vlm_gate_requests", "...", registry=registry).inc()
    return registry


def test_it_is_served_there_until_the_block_ends(registry):
    with metrics_port(Settings(metrics_port=0), registry) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        plain = httpx.get(url)
        openmetrics = httpx.get(url, headers={"accept": "application/openmetrics-text"})
    assert "vlm_gate_requests_total 1.0" in plain.text
    assert openmetrics.text.endswith("# EOF\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_without_the_setting_there_is_no_such_port(registry):
    with metrics_port(Settings(), registry) as port:
        assert port is None


def test_a_port_that_cannot_be_had_names_the_setting(registry):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(SettingsError, match="VLM_GATE_METRICS_PORT: cannot listen"),
            metrics_port(Settings(metrics_port=taken.getsockname()[1]), registry),
        ):
            pytest.fail("the port was taken twice")


@pytest.mark.anyio
async def test_the_services_own_port_then_has_none(serve):
    async with serve(metrics_port=0) as client:
        assert (await client.get("/metrics")).status_code == 404
