"""What an answer over HTTP costs beyond the engine's own time.

    python deploy/loadtest/cost.py --side 256 --kind PNG --answers 2000

The engine is the fake one. Processor time is that of the service's process, so it holds on a busy
machine too; the client's own is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import numpy as np
from client import Connection, cpu_seconds, fake_service, picture, request_bytes

IMAGES = 16
WARM_UP = 100


async def load(port: int, requests: list[bytes], answers: int, concurrency: int) -> list[float]:
    """Keep ``concurrency`` requests in flight; seconds beyond the engine's of every answer."""
    seconds: list[float] = []
    numbers = iter(range(answers))

    async def line() -> None:
        connection = Connection(port)
        for number in numbers:
            reply = await connection.send(requests[number % len(requests)])
            if reply.status != 200:
                raise SystemExit(f"{reply.status}: {reply.body!r}")
            engine = json.loads(reply.body)["timing"]["generate_seconds"]
            seconds.append(reply.seconds - engine)
        connection.close()

    await asyncio.gather(*(line() for _ in range(concurrency)))
    return seconds


def main() -> None:
    """Print one line of JSON per concurrency."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--kind", default="PNG")
    parser.add_argument("--answers", type=int, default=1000)
    asked = parser.parse_args()
    requests = [
        request_bytes(picture(asked.side, number, asked.kind), "Is there a scratch?")
        for number in range(IMAGES)
    ]
    with fake_service() as (pid, port):
        asyncio.run(load(port, requests, WARM_UP, 4))
        for concurrency in (1, 16):
            before, begun = cpu_seconds(pid), time.perf_counter()
            seconds = asyncio.run(load(port, requests, asked.answers, concurrency))
            spent, busy = time.perf_counter() - begun, cpu_seconds(pid) - before
            result = {
                "image": f"{asked.side}x{asked.side} {asked.kind}, {len(requests[0])} bytes",
                "concurrency": concurrency,
                "answers_per_second": round(asked.answers / spent, 1),
                "beyond_engine_p50_ms": round(1e3 * float(np.median(seconds)), 2),
                "beyond_engine_p99_ms": round(1e3 * float(np.quantile(seconds, 0.99)), 2),
                "cpu_ms_per_answer": round(1e3 * busy / asked.answers, 3),
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
