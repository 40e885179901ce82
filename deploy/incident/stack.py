"""Service, Prometheus, Alertmanager and a webhook receiver on this machine, on free ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx

from deploy.incident.scale import ROOT, alertmanager_config, prometheus_config, scale_rules

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 30.0


class IncidentError(Exception):
    """A program is missing, or did not come up."""


@dataclass(frozen=True)
class Page:
    """What the webhook was sent about one alert.

    Args:
        at: Unix time when it came. receiver: ``pager`` or ``ticket``.
        status: ``firing`` or ``resolved``.
    """

    at: float
    receiver: str
    status: str
    alert: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Webhook:
    """Receives what Alertmanager sends."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for alert in body["alerts"]:
                    name, status = alert["labels"]["alertname"], alert["status"]
                    told = alert["labels"], alert["annotations"]
                    pages.append(Page(time.time(), body["receiver"], status, name, *told))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Stack:
    """Everything that runs in the incident; a context manager that leaves nothing behind.

    Args:
        folder: for configurations, data and logs.
        factor: what every duration of the deployed configuration is multiplied by.
        settings: ``VLM_GATE_*`` of the service.
    """

    def __init__(self, folder: Path, factor: float, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._settings = {
            **settings,
            "VLM_GATE_PORT": str(self.port),
            "VLM_GATE_METRICS_PORT": str(self.metrics_port),
            "VLM_GATE_STATE_FOLDER": str(folder / "state"),
        }
        self._factor = factor
        self._running = ExitStack()
        self._service: subprocess.Popen[bytes] | None = None
        self.webhook = Webhook()
        self._running.callback(self.webhook.close)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            self.start_service()
            self._start_watchers()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_service()
        self._running.close()

    @property
    def pages(self) -> list[Page]:
        """What came over the webhook, oldest first."""
        return list(self.webhook.pages)

    def start_service(self) -> None:
        """Start it and wait until it is ready. Raises IncidentError."""
        environment = {name: v for name, v in os.environ.items() if not name.startswith("VLM_GATE")}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        self._service = self._spawn(
            "service", [sys.executable, "-m", "deploy.incident.serve"],
            {**environment, **self._settings},
        )  # fmt: skip
        self._wait("service", self._service, f"{self.url}/readyz")

    def stop_engine(self) -> None:
        """The engine gives no answer any more."""
        assert self._service is not None
        self._service.send_signal(signal.SIGUSR1)

    def stop_service(self) -> None:
        """Kill it, as a machine that fails would."""
        if self._service is not None:
            self._service.kill()
            self._service.wait()

    def query(self, expression: str, **range_: float | str) -> list[dict[str, Any]]:
        """Ask Prometheus, over a range where ``start``, ``end`` and ``step`` are given."""
        kind = "query_range" if range_ else "query"
        reply = httpx.get(
            f"{self.prometheus}/api/v1/{kind}",
            params={"query": expression, **range_},
            timeout=30,
        )
        body = reply.json()
        if body["status"] != "success":
            raise IncidentError(f"{expression}: {body['error']}")
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    def exemplars(self, metric: str, start: float) -> list[str]:
        """The trace ids that Prometheus keeps of a metric since ``start``, Unix time."""
        reply = httpx.get(
            f"{self.prometheus}/api/v1/query_exemplars",
            params={"query": metric, "start": start, "end": time.time()},
            timeout=30,
        )
        found = reply.json()["data"]
        return [kept["labels"]["trace_id"] for one in found for kept in one["exemplars"]]

    def _start_watchers(self) -> None:
        folder, factor = self.folder, self._factor
        manager, prometheus = free_port(), free_port()
        webhook = alertmanager_config(folder, factor, webhook=self.webhook.url)
        self._watch(
            "prometheus-alertmanager",
            manager,
            [
                f"--config.file={webhook}",
                f"--storage.path={folder / 'alertmanager'}",
                "--cluster.listen-address=",
            ],
        )
        configured = prometheus_config(
            folder,
            factor,
            target=f"{HOST}:{self.metrics_port}",
            alertmanager=f"{HOST}:{manager}",
            rules=scale_rules(folder, factor),
        )
        self._watch(
            "prometheus",
            prometheus,
            [
                f"--config.file={configured}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                "--enable-feature=exemplar-storage",
            ],
        )
        self.prometheus = f"http://{HOST}:{prometheus}"

    def _watch(self, program: str, port: int, options: list[str]) -> None:
        found = shutil.which(program)
        if found is None:
            raise IncidentError(f"{program} is missing: run make system, or install it")
        command = [found, f"--web.listen-address={HOST}:{port}", *options]
        started = self._spawn(program, command, dict(os.environ))
        self._running.callback(_end, started)
        self._wait(program, started, f"http://{HOST}:{port}/-/ready")

    def _spawn(self, name: str, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self.folder)

    def _wait(self, name: str, process: subprocess.Popen[bytes], url: str) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(url, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        log = (self.folder / f"{name}.log").read_text(errors="replace")
        raise IncidentError(f"{name} did not come up:\n{log[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
        return port
