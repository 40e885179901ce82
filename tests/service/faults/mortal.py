"""`vlm-gate serve` on a fake engine that questions make hang (``wait``) or die (``die``)."""

from __future__ import annotations

import sys
from typing import Any

from probes.types import Generation, Query, Readout
from service.cli import app
from service.engines import build
from service.engines.base import EngineError
from service.engines.fake import FakeEngine


class MortalEngine(FakeEngine):
    """See above."""

    async def generate(self, query: Query, readout: Readout) -> Generation:
        if query.question == "wait" and self.failure is None:
            self.hold()
        if query.question == "die":
            self.failure = EngineError("killed")
            self.release()
        return await super().generate(query, readout)


if __name__ == "__main__":
    engine: Any = MortalEngine
    build.FakeEngine = engine  # type: ignore[misc]
    sys.argv = ["vlm-gate", "serve"]
    app()
