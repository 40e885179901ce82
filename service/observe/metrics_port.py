"""``/metrics`` on a port of its own, so that the network can keep scrapers and callers apart."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from service.observe.telemetry import readable_accept
from service.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = structlog.get_logger("service.observe.metrics_port")


@contextmanager
def metrics_port(settings: Settings, registry: CollectorRegistry) -> Iterator[int | None]:
    """Serve the metrics while the block runs, from a thread; gives the port, if one is set.

    Raises SettingsError: the port cannot be had.
    """
    if settings.metrics_port is None:
        yield None
        return
    try:
        server = _server(settings.host, settings.metrics_port)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}METRICS_PORT: cannot listen on {settings.host}:{settings.metrics_port} "
            f"({error.strerror}); choose another port"
        ) from error
    exposition = make_wsgi_app(registry)

    def careful(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ["HTTP_ACCEPT"] = readable_accept(environ.get("HTTP_ACCEPT", ""))
        told: Iterable[bytes] = exposition(environ, start)
        return told

    server.set_app(careful)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    log.info("metrics_port", host=settings.host, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Threads(ThreadingMixIn, WSGIServer):
    """A thread for each request; none keeps the process."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Scrapes are not logged."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _server(host: str, port: int) -> WSGIServer:
    class Server(_Threads):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Server((host, port), _Quiet)
