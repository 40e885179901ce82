"""uvicorn that drains: it is not ready first, then closes the listener, then empties the queue.

If the engine is gone for good the process ends, so that it is started again.
"""

from __future__ import annotations

import gc
import math
import signal
import socket
import sys
import time
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from service.gate.gate import Gate
from service.http.connection import StrictProtocol
from service.settings import PREFIX, Settings, SettingsError

log = structlog.get_logger("service.http.server")
SWITCH_SECONDS = 0.001
"""A thread that parses a body lets the event loop go on after so long; Python's own is five times
that, each time that the loop has read or written something."""


class Server(uvicorn.Server):
    """One process, one event loop, one model.

    ``engine_lost`` says whether it ended because its engine did.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.gate: Gate = app.state.gate
        self._drain_seconds = settings.drain_seconds
        self._closes_at = -math.inf
        self._exit_seconds = settings.engine_exit_seconds
        self._exits_at = math.inf
        self.engine_lost = False
        super().__init__(
            uvicorn.Config(
                app,
                http=StrictProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here asks where a request came from
                timeout_graceful_shutdown=round(settings.deadline_seconds) + 1,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve. What exists by now stays: the collector need not look at it again."""
        await super().startup(sockets)
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready. A server that is asked to end exits with 0.

        A second signal ends the wait for load balancers. A third, or a second interrupt, ends the
        wait for requests too. The records of given answers are written all the same.
        """
        if self.should_exit:
            waiting = time.monotonic() < self._closes_at
            self._closes_at = -math.inf
            self.force_exit = sig == signal.SIGINT or not waiting
            return
        self.gate.leaving = True
        self._closes_at = time.monotonic() + self._drain_seconds
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the listener: load balancers had time to see that it ends."""
        self._look_at_engine()
        return await super().on_tick(counter) and time.monotonic() >= self._closes_at

    def _look_at_engine(self) -> None:
        """End once the engine has been unhealthy for longer than the setting allows."""
        if self.gate.engine.healthy:
            self._exits_at = math.inf
        elif self._exits_at == math.inf:
            self._exits_at = time.monotonic() + self._exit_seconds
            log.error("engine_lost", exit_seconds=self._exit_seconds)
        elif time.monotonic() >= self._exits_at and not self.should_exit:
            self.engine_lost = self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, finish those that are here, and end."""
        self.gate.admission.draining = True
        await super().shutdown(sockets)


def bind(settings: Settings) -> socket.socket:
    """Bind the address before the model is loaded. Raises SettingsError if that fails."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"{PREFIX}HOST, {PREFIX}PORT: cannot listen on {settings.host}:{settings.port} "
            f"({error.strerror}); choose another port"
        ) from error
    return listening
