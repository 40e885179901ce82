"""What an answer over HTTP costs beyond the engine's own time, and how many there are a second.

    python deploy/loadtest/cost.py --side 128 --kind JPEG --seconds 10

Runs the real service on the fake engine, on 127.0.0.1 only: without records, with them, and with
an answer given only once its record is committed (strict). One request after the other gives the
time beyond the engine's; wrk (Debian's package), which takes its share of the same cores, gives
the answers per second. Prints one JSON object, last, with how busy others kept the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from client import Connection, cpu_seconds, fake_service, picture, request_bytes

from service.access.key_file import new_key, save_keys, utc_now

IMAGES = 16
WARM_UP = 300
KINDS = {
    "without records": {"VLM_GATE_RECORDS_URL": ""},
    "with records": {},
    "strict": {"VLM_GATE_RECORDS_STRICT": "true"},
}
LUA = """
local requests, n = {{}}, 0
for i = 0, {count} - 1 do
  local file = io.open("{folder}/" .. i, "rb"); requests[i] = file:read("*a"); file:close()
end
request = function() n = (n + 1) % {count}; return requests[n] end
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


async def alone(port: int, requests: list[bytes], answers: int) -> tuple[float, float]:
    """One after the other: milliseconds beyond the engine's, and of the commit (median each)."""
    beyond: list[float] = []
    with closing(Connection(port)) as connection:
        for number in range(WARM_UP + answers):
            reply = await connection.send(requests[number % len(requests)])
            if reply.status != 200:
                raise SystemExit(f"{reply.status}: {reply.body!r}")
            engine = json.loads(reply.body)["timing"]["generate_seconds"]
            beyond.append(reply.seconds - engine)
    kept = np.array(beyond[WARM_UP:])
    return 1e3 * float(np.median(kept)), 1e3 * float(np.quantile(kept, 0.99))


def many(pid: int, port: int, script: Path, at_once: int, seconds: int) -> dict[str, float]:
    """As many as there can be, by wrk."""
    own, busy, began = cpu_seconds(pid), _busy_seconds(), time.perf_counter()
    client = _children_seconds()
    command = ["wrk", "-t1", f"-c{at_once}", f"-d{seconds}s", "--latency", f"-s{script}"]
    told = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    ).stdout
    spent, own = time.perf_counter() - began, cpu_seconds(pid) - own
    others = _busy_seconds() - busy - own - (_children_seconds() - client)
    answers = int(re.findall(r"(\d+) requests in", told)[0])
    bad = re.findall(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", told)
    if bad:
        raise SystemExit(f"not all were answered: {bad}")
    found = {share: re.findall(rf"{share}%\s+([\d.]+)(us|ms|s)", told)[0] for share in (50, 99)}
    return {
        "answers": answers,
        "answers_per_second": round(answers / spent, 1),
        **{f"p{share}_ms": float(n) * UNITS[unit] for share, (n, unit) in found.items()},
        "service_cpu_ms_per_answer": round(1e3 * own / answers, 3),
        "cores_taken_by_others": round(max(0.0, others / spent), 2),
    }


def measure(
    settings: dict[str, str], asked: argparse.Namespace, key: str | None
) -> dict[str, float]:
    """One service, alone and under load."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    requests = [
        request_bytes(picture(asked.side, number, asked.kind), "Is there a scratch?", headers)
        for number in range(IMAGES)
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, request in enumerate(requests):
            (Path(folder) / str(number)).write_bytes(request)
        script = Path(folder) / "requests.lua"
        script.write_text(LUA.format(folder=folder, count=IMAGES))
        settings = {**settings, "VLM_GATE_STATE_FOLDER": folder}
        with fake_service(settings=settings) as (pid, port):
            p50, p99 = asyncio.run(alone(port, requests, asked.answers))
            many(pid, port, script, asked.at_once, 1)
            loaded = many(pid, port, script, asked.at_once, asked.seconds)
        database = Path(folder) / "records.db"
        if database.exists():
            with closing(sqlite3.connect(database)) as records:
                loaded["records"] = records.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
    beyond = {"beyond_engine_p50_ms": round(p50, 2), "beyond_engine_p99_ms": round(p99, 2)}
    return {**beyond, **loaded}


def _busy_seconds() -> float:
    """Processor time that the whole machine has used."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure each kind of service, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128, help="pixels of the image's side")
    parser.add_argument("--kind", default="JPEG")
    parser.add_argument("--answers", type=int, default=1000, help="one after the other")
    parser.add_argument("--seconds", type=int, default=10, help="of load")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--keys", action="store_true", help="with an API key")
    parser.add_argument("--only", choices=KINDS, help="one kind of service")
    asked = parser.parse_args()
    result: dict[str, object] = {
        "image": f"{asked.side}x{asked.side} {asked.kind}, "
        f"{len(picture(asked.side, 0, asked.kind))} bytes",
        "at_once": asked.at_once,
        "keys": asked.keys,
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as folder:
        key, own = None, {}
        if asked.keys:
            key, kept = new_key("load test", ["answer"], utc_now())
            save_keys(Path(folder) / "keys.json", [kept])
            own = {"VLM_GATE_API_KEYS_FILE": str(Path(folder) / "keys.json")}
        for kind, settings in KINDS.items():
            if asked.only in (None, kind):
                result[kind] = measure({**settings, **own}, asked, key)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
