"""Several times more requests than can be answered: what the service then does.

    python deploy/loadtest/overload.py --seconds 60

Runs the real service on the fake engine, on 127.0.0.1 only. Its capacity is stated: ``--inflight``
answers at once of ``--latency-seconds`` each. First the best goodput is measured, with exactly as
many callers as are worked on at once; then requests arrive ``--factor`` times as fast as the stated
capacity, whether answers come or not. Goodput counts 200s within the deadline. Prints one JSON
object; ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter

import numpy as np
from client import Connection, Reply, fake_service, picture, request_bytes, resident_bytes

IMAGES = 16
SLACK_SECONDS = 0.25
"""Over the deadline: the way of a reply through two busy processes."""
MEMORY_GROWTH = 1.05
MEMORY_FLOOR_BYTES = 16 * 2**20
CLEAN = {200, 503, 504}


async def best_goodput(
    port: int, requests: list[bytes], at_once: int, seconds: float, deadline: float
) -> float:
    """Answers per second when there are never more requests than can be worked on."""
    end = time.perf_counter() + seconds
    good = 0

    async def line(number: int) -> None:
        nonlocal good
        connection = Connection(port)
        while time.perf_counter() < end:
            reply = await connection.send(requests[number % len(requests)])
            good += reply.status == 200 and reply.seconds <= deadline
        connection.close()

    begun = time.perf_counter()
    await asyncio.gather(*(line(number) for number in range(at_once)))
    return good / (time.perf_counter() - begun)


async def overload(
    port: int, pid: int, requests: list[bytes], rate: float, seconds: float
) -> tuple[list[Reply], list[int], float]:
    """Requests at a steady rate; gives the replies, the memory by time, and the seconds it took.

    A connection that is free is used again; where none is, another is opened.
    """
    free: list[Connection] = []
    replies: list[Reply] = []
    memory: list[int] = []

    async def one(number: int) -> None:
        connection = free.pop() if free else Connection(port)
        replies.append(await connection.send(requests[number % len(requests)]))
        free.append(connection)

    begun = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    number = 0
    while (now := time.perf_counter() - begun) < seconds:
        while number < now * rate:
            task = asyncio.create_task(one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if len(memory) < now * 2:
            memory.append(resident_bytes(pid))
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    spent = time.perf_counter() - begun
    for connection in free:
        connection.close()
    return replies, memory, spent


def judge(
    replies: list[Reply],
    memory: list[int],
    spent: float,
    best: float,
    deadline: float,
    slack: float,
) -> dict[str, object]:
    """What came of it, and which promises are broken (of goodput: see main)."""
    codes = Counter(reply.status for reply in replies)
    kinds = Counter(
        json.loads(reply.body)["type"].rpartition(":")[2]
        for reply in replies
        if reply.status in (503, 504)
    )
    accepted = [reply.seconds for reply in replies if reply.status == 200]
    good = sum(seconds <= deadline for seconds in accepted)
    unclean = sum(
        reply.status not in CLEAN or (reply.status == 503 and "retry-after" not in reply.headers)
        for reply in replies
    )
    late = sum(reply.seconds > deadline + slack for reply in replies)
    third = max(1, len(memory) // 3)
    first, last = max(memory[:third]), max(memory[-third:])
    flat = last <= max(first * MEMORY_GROWTH, first + MEMORY_FLOOR_BYTES)
    broken = [
        name for name, bad in (("clean", unclean), ("deadline", late), ("memory", not flat)) if bad
    ]
    return {
        "requests": len(replies),
        "codes": dict(sorted(codes.items())),
        "refusals": dict(kinds),
        "best_goodput_per_second": round(best, 1),
        "goodput_per_second": round(good / spent, 1),
        "goodput_ratio": round(good / spent / best, 3) if best else 0.0,
        "accepted_p50_seconds": round(float(np.median(accepted)), 3) if accepted else None,
        "accepted_p99_seconds": round(float(np.quantile(accepted, 0.99)), 3) if accepted else None,
        "all_p99_seconds": round(float(np.quantile([r.seconds for r in replies], 0.99)), 3),
        "unclean": unclean,
        "late": late,
        "memory_first_mib": round(first / 2**20, 1),
        "memory_last_mib": round(last / 2**20, 1),
        "broken": broken,
    }


def main() -> None:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--inflight", type=int, default=8)
    parser.add_argument("--latency-seconds", type=float, default=0.1)
    parser.add_argument("--queue", type=int, default=200)
    parser.add_argument("--deadline-seconds", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=256, help="pixels of the JPEG's side")
    parser.add_argument("--least-goodput", type=float, default=0.9, help="share of the best")
    parser.add_argument("--slack-seconds", type=float, default=SLACK_SECONDS)
    asked = parser.parse_args()
    deadline = asked.deadline_seconds
    headers = {"x-request-timeout": str(deadline)}
    requests = [
        request_bytes(picture(asked.side, number, "JPEG"), "Is there a scratch?", headers)
        for number in range(IMAGES)
    ]
    capacity = asked.inflight / asked.latency_seconds
    settings = {
        "VLM_GATE_MAX_INFLIGHT": str(asked.inflight),
        "VLM_GATE_MAX_QUEUE": str(asked.queue),
    }
    with fake_service(asked.latency_seconds, settings) as (pid, port):
        asyncio.run(best_goodput(port, requests, asked.inflight, 0.5, deadline))  # warm up
        best = asyncio.run(
            best_goodput(port, requests, asked.inflight, max(2.0, asked.seconds / 6), deadline)
        )
        replies, memory, spent = asyncio.run(
            overload(port, pid, requests, asked.factor * capacity, asked.seconds)
        )
    result = judge(replies, memory, spent, best, deadline, asked.slack_seconds)
    broken = result["broken"]
    assert isinstance(broken, list)
    if result["goodput_ratio"] < asked.least_goodput:  # type: ignore[operator]
        broken.append("goodput")
    print(json.dumps({"capacity_per_second": capacity, **result}, indent=2))
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
