"""uvicorn, told to drain: on SIGTERM readiness goes first, then the queue empties, then it ends."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.gate import Gate
from service.settings import PREFIX, Settings, SettingsError


class Server(uvicorn.Server):
    """One process, one event loop, one model."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.gate: Gate = app.state.gate
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",  # httptools is faster, and lets requests without a host through
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.deadline_seconds) + 1,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop admitting at once. Asked to end, it ends with status 0."""
        self.gate.admission.draining = True
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def bind(settings: Settings) -> socket.socket:
    """Take the address before the model is loaded. Raises SettingsError when it cannot be had."""
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
