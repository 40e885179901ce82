"""Everything that is fuzzed, one after the other, each for its share of the time: ``make fuzz``.

Readers under atheris, generated requests against the OpenAPI document, and damaged requests to a
service with decoders. Ends with 1 when something was found; the input lies in the folder named,
and belongs into ``tests/fuzz/found/<reader>/`` once it is mended.

    python -m tests.fuzz.run --minutes 60
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.readers import READERS

HERE = Path(__file__).parent
LONGEST_SECONDS = 10
"""A reader that takes longer for one input hangs."""
MOST_MEMORY_MIB = 2048
MOST_FINDINGS = 5
"""Of one reader; after that it is mended first."""
CASES = 100
"""Requests per operation of one round."""


@dataclass
class Result:
    """What came of one target."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    memory_mib: int = 0
    findings: list[str] = field(default_factory=list)


def fuzz_reader(name: str, seconds: float, out: Path) -> Result:
    """A reader under atheris; after a finding it goes on with what it learned."""
    result, ends = Result(name), time.monotonic() + seconds
    corpus, seeds = out / name / "corpus", out / name / "seeds"
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    kept = HERE / "found" / name
    found = [path.read_bytes() for path in sorted(kept.glob("*"))] if kept.is_dir() else []
    for number, seed in enumerate([*READERS[name].seeds(), *found]):
        (seeds / f"{number:04d}").write_bytes(seed)
    while (left := ends - time.monotonic()) > 1 and len(result.findings) < MOST_FINDINGS:
        options = [
            f"-max_total_time={left:.0f}",
            f"-timeout={LONGEST_SECONDS}",
            f"-rss_limit_mb={MOST_MEMORY_MIB}",
            "-max_len=200000",
            "-print_final_stats=1",
            f"-artifact_prefix={out / name}/",
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.target", name, str(corpus), str(seeds), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        told = ran.stdout.decode(errors="replace")
        result.inputs += _number(r"number_of_executed_units:\s*(\d+)", told)
        result.memory_mib = max(result.memory_mib, _number(r"peak_rss_mb:\s*(\d+)", told))
        if ran.returncode:
            result.findings.append(_finding(told))
    return result


def _number(pattern: str, told: str) -> int:
    found = re.findall(pattern, told)
    return int(found[-1]) if found else 0


def _finding(told: str) -> str:
    """The error and where its input lies."""
    lines = [line for line in told.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    where = re.findall(r"Test unit written to (\S+)", told)
    why = lines[-1] if lines else " / ".join(told.splitlines()[-3:])
    return f"{why[:300]} {where[-1:]}"


def fuzz_document(seconds: float, out: Path) -> Result:
    """Rounds of generated requests against the OpenAPI document, each with another seed."""
    result, ends, seed = Result("openapi"), time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        seed += 1
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider",
             "tests/service/security/test_openapi.py"],
            env={**os.environ, "FUZZ_CASES": str(CASES), "FUZZ_SEED": str(seed)},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        counts = re.search(r"answers by status: \{(.*)\}", ran.stdout)
        result.inputs += sum(map(int, re.findall(r": (\d+)", counts[1]))) if counts else 0
        if ran.returncode:
            (out / f"openapi-{seed}.txt").write_text(ran.stdout + ran.stderr)
            result.findings.append(f"seed {seed}: {out}/openapi-{seed}.txt")
    return result


def fuzz_service(seconds: float, out: Path) -> Result:
    """Damaged requests to a service with decoders."""
    from tests.fuzz.wire import attack

    told = attack(seconds, seed=int(time.time()), out=out)
    return Result("service", told.requests, memory_mib=told.memory_mib, findings=told.findings)


def main() -> None:
    """Run all, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    names = [*READERS, "openapi", "service"]
    parser.add_argument("--target", action="append", choices=names)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    others: dict[str, Callable[[float, Path], Result]]
    others = {"openapi": fuzz_document, "service": fuzz_service}
    chosen, failed = asked.target or names, False
    for name in chosen:
        share, began = 60 * asked.minutes / len(chosen), time.monotonic()
        if name in others:
            result = others[name](share, asked.out)
        else:
            result = fuzz_reader(name, share, asked.out)
        result.seconds = round(time.monotonic() - began, 1)
        print(result, flush=True)
        failed |= bool(result.findings)
    sys.exit(failed)


if __name__ == "__main__":
    main()
