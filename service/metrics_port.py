"""``/metrics`` on a port of its own, so that the network can keep scrapers and callers apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from service.settings import PREFIX, Settings, SettingsError

log = structlog.get_logger("service.metrics_port")


@contextmanager
def metrics_port(settings: Settings, registry: CollectorRegistry) -> Iterator[int | None]:
    """Serve the metrics while the block runs, from a thread; gives the port, if one is set.

    Raises SettingsError: the port cannot be had.
    """
    if settings.metrics_port is None:
        yield None
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}METRICS_PORT: cannot listen on {settings.host}:{settings.metrics_port} "
            f"({error.strerror}); choose another port"
        ) from error
    log.info("metrics_port", host=settings.host, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
