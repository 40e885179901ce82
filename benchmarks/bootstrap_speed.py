"""Time of 1,000 clustered bootstrap resamples of 8 signals on 20,000 answers.

    python -m benchmarks.bootstrap_speed [--answers 20000] [--signals 8] [--resamples 1000]

Once with AUROC alone and once with every metric that an evaluation judges a signal by. Prints JSON
last.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

import numpy as np

from probes.judge.side_by_side import METRICS
from probes.stats.bootstrap import cluster_bootstrap

QUESTIONS = 5


def main() -> None:
    """Made-up signals of falling strength, five questions to an image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--signals", type=int, default=8)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    count = arguments.answers
    groups = np.arange(count) // QUESTIONS
    truth = rng.normal(size=count)
    wrong = rng.random(count) < 1 / (1 + np.exp(1 - 2 * truth))
    scores = {
        f"signal_{index}": truth + (1 + index) * rng.normal(size=count)
        for index in range(arguments.signals)
    }
    seconds = {}
    for name, metrics in (("auroc", {"auroc": METRICS["auroc"]}), ("all", METRICS)):
        started = time.perf_counter()
        cluster_bootstrap(metrics, scores, wrong, groups, resamples=arguments.resamples)
        seconds[name] = round(time.perf_counter() - started, 2)
    found = {
        "answers": count,
        "signals": arguments.signals,
        "resamples": arguments.resamples,
        "auroc_seconds": seconds["auroc"],
        "all_metrics": len(METRICS),
        "all_metrics_seconds": seconds["all"],
        "cpu_seconds": round(time.process_time(), 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
