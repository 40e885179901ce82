"""The real service on the real model, whose engine SIGUSR1 stops for good, as a dead GPU would.

    python -m deploy.incident.serve

Settings are read from the environment, as by ``vlm-gate serve``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

from probes.model.folder import read_bundle
from probes.types import (
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)
from service.app import create_app
from service.engines.base import Engine
from service.engines.build import build_engine
from service.http.server import Server, bind
from service.observe.logs import configure
from service.observe.metrics_port import metrics_port
from service.settings import load_settings


class Stoppable:
    """An engine that gives no answer any more once SIGUSR1 came."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._works = True

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    @property
    def healthy(self) -> bool:
        return self._engine.healthy

    async def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._stop)
        await self._engine.start()

    async def generate(self, query: Query, readout: Readout) -> Generation:
        await self._wait()
        return await self._engine.generate(query, readout)

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        await self._wait()
        return await self._engine.sample(
            query, count, temperature=temperature, top_p=top_p, seed=seed
        )

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        await self._wait()
        return await self._engine.score(query, token_ids)

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        return self._engine.patch_boxes(image_size, grid)

    async def close(self) -> None:
        await self._engine.close()

    def _stop(self) -> None:
        self._works = False

    async def _wait(self) -> None:
        if not self._works:
            await asyncio.Event().wait()


def main() -> None:
    """Serve until SIGTERM; the first lines on standard error name the addresses."""
    settings = load_settings()
    configure(settings.log_level)
    bundle = read_bundle(settings.bundle)
    engine = build_engine(
        settings.engine, settings.model, device=settings.device, dtype=bundle.model.dtype
    )
    app = create_app(settings, Stoppable(engine), bundle)
    registry = app.state.telemetry.registry
    with bind(settings) as listening, metrics_port(settings, registry) as port:
        print(f"listening on {listening.getsockname()[1]}", file=sys.stderr, flush=True)
        print(f"metrics on {port}", file=sys.stderr, flush=True)
        Server(app, settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
