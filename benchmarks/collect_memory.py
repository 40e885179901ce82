"""Memory and disk of `collect` at a 7 B model's width, with an engine that costs nothing.

    python -m benchmarks.collect_memory [--width 4096] [--answers 500 2000]

Four layers at three positions. Each size runs in its own process. Prints JSON last: peak memory
must not grow with the answers by more than their records, and the folder is hardly larger than its
float16 hidden states.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from probes.data.collect import collect
from probes.data.datasets.example import Example
from probes.types import GenerationSettings
from service.engines.fake import FakeEngine


async def measure(answers: int, width: int, folder: Path) -> dict[str, object]:
    """Collect that many answers about one image each."""
    engine = FakeEngine(layers=4, hidden_size=width)
    await engine.start()
    picture = folder / "image.png"
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(picture)
    examples = [
        Example(str(index), picture, f"Is it {index}?", ("yes",), "presence", "all", "yes_no")
        for index in range(answers)
    ]
    settings = GenerationSettings(max_tokens=8, samples=10)
    started = time.perf_counter()
    store = await collect(examples, engine, folder / "run", generation=settings)
    seconds = time.perf_counter() - started
    features = answers * len(store.setup.readouts) * width * 2
    written = sum(path.stat().st_size for path in (folder / "run").iterdir())
    return {
        "answers": answers,
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "feature_mib": round(features / 2**20),
        "written_over_features": round(written / features, 4),
        "answers_per_second": round(answers / seconds),
    }


def main() -> None:
    """Run every size in a fresh process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--answers", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--here", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    found = []
    for answers in arguments.answers:
        if arguments.here:
            with tempfile.TemporaryDirectory() as scratch:
                found.append(asyncio.run(measure(answers, arguments.width, Path(scratch))))
            continue
        options = ["--width", str(arguments.width), "--answers", str(answers), "--here"]
        command = [sys.executable, "-m", "benchmarks.collect_memory", *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found += json.loads(done.stdout.splitlines()[-1])["runs"]
    print(json.dumps({"width": arguments.width, "runs": found}))


if __name__ == "__main__":
    main()
