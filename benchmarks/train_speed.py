"""Time and memory of `vlm-gate train` on a store of a 7 B model's size.

    python -m benchmarks.train_speed [--answers 20000] [--width 4096] [--layers 5] [--positions 1]

Prints JSON last. The store is written first and not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.synthetic_store import write_store
from probes.data.store import load
from probes.fit.train import train
from probes.types import POSITIONS


def measure(folder: Path) -> dict[str, object]:
    """Train on a store in this process, which has done nothing else."""
    started = time.perf_counter()
    bundle = train(load(folder), folder.with_name("bundle"))
    seconds = time.perf_counter() - started
    best = bundle.training["probe_candidates"][0]
    return {
        "train_seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "fit_answers": bundle.training["split"]["answers"]["fit"],
        "best_layer": best["layer"],
        "best_c": best["regularisation"],
        "select_auroc": round(best["auroc"], 4),
    }


def main() -> None:
    """Write the store here, train in a process of its own, print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--positions", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--store", type=Path, help="measure on this one, nothing else")
    arguments = parser.parse_args()
    if arguments.store is not None:
        print(json.dumps(measure(arguments.store)))
        return
    places = [
        (6 * (depth + 1), position)
        for depth in range(arguments.layers)
        for position in POSITIONS[: arguments.positions]
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "store"
        write_store(folder, arguments.answers, arguments.width, places)
        command = [sys.executable, "-m", "benchmarks.train_speed", "--store", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
    shape = {"answers": arguments.answers, "width": arguments.width, "places": len(places)}
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor()}
    print(json.dumps({**shape, **found, **machine, "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
