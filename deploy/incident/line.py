"""An inspection line that asks the service about its images, and tells it what audits found."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections import Counter

import httpx
import numpy as np
from PIL import Image

from probes.labels import judge
from testbed.drawing import render
from testbed.questions import Question, ask
from testbed.scenes import make_scene, severity

FIRST_SEED = 400_000
"""Scenes that neither the model nor the bundle has seen."""
AT_ONCE = 8
SPECIAL = 50
"""One request of so many asks for samples, one for evidence, and one brings a broken image."""


class Line:
    """Asks at a steady rate until it is closed.

    Args:
        url: of the service; may be changed while it runs.
        rate: questions a second; fewer where the service does not keep up.
    """

    def __init__(self, url: str, rate: float) -> None:
        self.url = url
        self.least_severity = 0.0
        """Degrade every image at least so much, 0 to 1."""
        self.told: Counter[str] = Counter()
        """Replies by decision, or by status where there is none."""
        self.judged: Counter[str] = Counter()
        """Answers by decision and whether they were right."""
        self._rate = rate
        self._seed = FIRST_SEED
        self._room = asyncio.Semaphore(AT_ONCE)
        self._client = httpx.AsyncClient(timeout=30)
        self._asking: set[asyncio.Task[None]] = set()
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop asking; what is asked is waited for."""
        self._running.cancel()
        await asyncio.gather(self._running, *self._asking, return_exceptions=True)
        await self._client.aclose()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._room.acquire()
            self._seed += 1
            task = asyncio.create_task(self._ask(self._seed))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            due = max(due + 1 / self._rate, loop.time() - 1)
            await asyncio.sleep(due - loop.time())

    async def _ask(self, seed: int) -> None:
        try:
            image, question = await asyncio.to_thread(_look, seed, self.least_severity)
            special = seed % SPECIAL
            form = {
                "question": question.text,
                "metadata": json.dumps({"line": str(1 + seed % 2)}),
                **({"self_consistency": "always"} if special == 1 else {}),
                **({"evidence": "true"} if special == 2 else {}),
            }
            if special == 3:
                image = b"no image"
            trace = random.Random(seed).getrandbits(128) | 1
            reply = await self._client.post(
                f"{self.url}/v1/answer",
                data=form,
                files={"image": image},
                headers={"traceparent": f"00-{trace:032x}-00000000000000ab-01"},
            )
            if reply.status_code != 200:
                self.told[str(reply.status_code)] += 1
                return
            told = reply.json()
            self.told[told["decision"]] += 1
            right = not judge(told["answer"], question.answers, question.rule).wrong
            self.judged[f"{told['decision']} {'right' if right else 'wrong'}"] += 1
            if told["reason"] == "audit":
                outcome = {"id": told["id"], "correct": right, "reviewer": "line"}
                await self._client.post(f"{self.url}/v1/outcomes", json=outcome)
        except httpx.TransportError:
            self.told["no connection"] += 1
        finally:
            self._room.release()


def _look(seed: int, least_severity: float) -> tuple[bytes, Question]:
    """An image as PNG, and a question about it."""
    scene = make_scene(seed, "line")
    question = ask(scene, np.random.default_rng(seed), n=1)[0]
    pixels = render(scene, max(severity(scene), least_severity))
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "PNG", compress_level=1)
    return stored.getvalue(), question
