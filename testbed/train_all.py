"""All families at once: ``python -m testbed.train_all --minutes 7 --out testbed/models``.

Renders the scenes once, trains each family in a process of its own on the same device, judges what
came out, and prints the accuracies last. ``--limit`` minutes after its start nothing trains any
more: the schedules are cut to it, and what runs on all the same is stopped; the model that it saved
last is then judged.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from testbed.accuracy import HELD_OUT_SEEDS
from testbed.corpus import render_into
from testbed.families import FAMILIES
from testbed.scenes import DOMAINS
from testbed.train import Recipe

JUDGED_SCENES = 500
JUDGING_SECONDS = 45.0
"""For judging, where there is a limit."""


def render_all(recipe: Recipe, cache: Path, judged: int) -> None:
    """Every scene that training and judging need, at every family's size."""
    sizes = sorted({family.image_size for family in FAMILIES.values()})
    render_into(cache, recipe.seeds, "catalog", sizes)
    render_into(cache, recipe.held_out, "catalog", sizes)
    for domain in DOMAINS:
        render_into(cache, range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + judged), domain, sizes)


def run_all(commands: dict[str, list[str]], logs: Path, seconds: float) -> dict[str, int | None]:
    """Run the commands at once, at most ``seconds``; exit codes, ``None``: stopped."""
    deadline = time.monotonic() + seconds
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    codes: dict[str, int | None] = {}
    running = {}
    for name, command in commands.items():
        with (logs / f"{name}.log").open("ab") as log:
            running[name] = subprocess.Popen(
                [sys.executable, "-m", *command], stdout=log, stderr=log, env=environment
            )
    for name, process in running.items():
        try:
            left = None if seconds == math.inf else max(deadline - time.monotonic(), 0.1)
            codes[name] = process.wait(timeout=left)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(timeout=20)
            codes[name] = None
    return codes


def show(name: str, code: int | None, log: Path) -> None:
    """Print how a family's process ended, and why if it failed."""
    print(json.dumps({"family": name, "exit": code, "stopped": code is None}), flush=True)
    if code:
        print(log.read_text(errors="replace")[-1500:], flush=True)


def main() -> None:
    began = time.monotonic()

    def elapsed() -> float:
        return round(time.monotonic() - began, 1)

    parser = argparse.ArgumentParser(description="Train every embedded model from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="a folder per family is made here")
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--limit", type=float, help="minutes after which all training is stopped")
    parser.add_argument("--scenes", type=int, default=Recipe.scenes)
    parser.add_argument("--batch", type=int, default=Recipe.batch, help="images a step")
    parser.add_argument("--workers", type=int, default=Recipe.workers, help="per family")
    parser.add_argument("--judged", type=int, default=JUDGED_SCENES, help="scenes per domain")
    parser.add_argument("--cache", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--tar", action="store_true", help="leave FAMILY.tar, not a folder")
    options = parser.parse_args()
    recipe = Recipe(scenes=options.scenes)
    render_all(recipe, options.cache, options.judged)
    print(json.dumps({"rendered_seconds": elapsed()}), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    folders = {name: options.out / name for name in FAMILIES}
    shared = ["--cache", str(options.cache)]
    settings = ["--minutes", str(options.minutes), "--scenes", str(options.scenes)]
    settings += ["--batch", str(options.batch), "--workers", str(options.workers)]
    if options.limit is not None:
        spare = 25.0
        settings += ["--ends", str(time.time() + options.limit * 60 - spare - elapsed())]
    codes = run_all(
        {
            name: ["testbed.train", name, "--out", str(folder), *settings, *shared]
            for name, folder in folders.items()
        },
        options.cache,
        math.inf if options.limit is None else options.limit * 60 - elapsed(),
    )
    for name, code in codes.items():
        show(name, code, options.cache / f"{name}.log")
    judging = [*shared, "--scenes", str(options.judged)]
    codes = run_all(
        {
            name: ["testbed.card", name, "--folder", str(folder), *judging]
            for name, folder in folders.items()
            if (folder / "model.safetensors").exists()
        },
        options.cache,
        math.inf if options.limit is None else JUDGING_SECONDS,
    )
    for name, code in codes.items():
        show(name, code, options.cache / f"{name}.log")
        card = folders[name] / "README.md"
        if code == 0:
            print(card.read_text().partition("**Recipe.**")[2], flush=True)
    if options.tar:
        for name, folder in folders.items():
            if folder.exists():
                with tarfile.open(options.out / f"{name}.tar", "w") as tar:
                    tar.add(folder, name)
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
    print(json.dumps({"total_seconds": elapsed()}))


if __name__ == "__main__":
    main()
