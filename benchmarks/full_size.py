"""Collection at the published models' sizes, with random weights.

    python -m benchmarks.full_size [--models NAME ...] [--questions 200] [--device cuda]
                                   [--toy] [--out FILE]

Every model is made on the device in bfloat16, asked about generated scenes of 640 x 480 pixels by
the project's own ``collect`` (hidden states of 4 layers at 3 positions, attention rows of all
layers, 10 sampled answers, at most 16 tokens each) with the batches of the command line. Random
weights hardly ever end an answer, so that every answer has all its tokens. Needs 80 GB of GPU
memory; ``--toy`` tries it on a CPU with narrow decoders. Prints JSON last.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText

from benchmarks.full_size_shapes import SHAPES, Shape
from probes.data.collect import collect
from probes.data.datasets import load_dataset
from probes.data.datasets.example import Example
from probes.data.images import load_image
from probes.data.store import Store
from probes.types import GenerationSettings, ModelIdentity, Query
from service.engines.build import CALLS_PER_QUESTION, COLLECT_BATCH, COLLECT_WAIT_SECONDS
from service.engines.transformers.checkpoint import Checkpoint
from service.engines.transformers.engine import TransformersEngine
from testbed.dataset import write_dataset

GENERATION = GenerationSettings(max_tokens=16, samples=10)
PER_SCENE = 4
PIXELS = (640, 480)
WARM_UP = 8
"""Questions asked before, not counted: the first batch chooses and loads its kernels."""


def questions(folder: Path, count: int) -> Sequence[Example]:
    """About scenes of the line domain, enlarged to the usual size of a photograph."""
    write_dataset(folder, "line", range(-(-count // PER_SCENE)), PER_SCENE)
    for path in (folder / "images").iterdir():
        Image.open(path).resize(PIXELS, Image.Resampling.BICUBIC).save(path)
    examples, problems = load_dataset(folder / "questions.jsonl")
    if problems or len(examples) < count:
        raise RuntimeError(f"{len(examples)} questions of {count}: {problems[:1]}")
    return examples[:count]


def build(
    shape: Shape, examples: Sequence[Example], device: str, toy: bool
) -> tuple[Checkpoint, int]:
    """The shape with random weights, made where it will run; and its number of parameters."""
    torch.manual_seed(0)
    config = shape.config(toy)
    with torch.device(device):
        model: Any = AutoModelForImageTextToText.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    text = config.get_text_config()
    for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
        setattr(model.generation_config, name, getattr(text, name))
    identity = ModelIdentity(
        name=shape.name, revision="random-weights", family=shape.family,
        layers=text.num_hidden_layers, hidden_size=text.hidden_size, dtype="bfloat16",
        engine="transformers", processor_hash="synthetic", chat_template_hash="published",
    )  # fmt: skip
    tokenizer = shape.tokenizer([one.question for one in examples])
    parameters = sum(each.numel() for each in model.parameters())
    return Checkpoint(model, shape.processor(tokenizer), identity), parameters


async def measure(
    checkpoint: Checkpoint, examples: Sequence[Example], folder: Path
) -> dict[str, Any]:
    """Collect once to warm up, then once by the clock."""
    engine = TransformersEngine(
        checkpoint,
        max_batch_size=COLLECT_BATCH,
        batch_wait_seconds=COLLECT_WAIT_SECONDS,
        queue_size=CALLS_PER_QUESTION * COLLECT_BATCH,
    )
    await engine.start()
    try:
        await collect(examples[:WARM_UP], engine, folder / "warm-up", generation=GENERATION)
        started = time.perf_counter()
        store = await collect(examples, engine, folder / "run", generation=GENERATION)
        seconds = time.perf_counter() - started
    finally:
        await engine.close()
    return {
        "seconds": round(seconds, 2),
        "questions_per_second": round(len(examples) / seconds, 3),
        "store_bytes_per_question": round(size(folder / "run") / len(examples)),
        **read_back(store),
    }


def read_back(store: Store) -> dict[str, Any]:
    """What the store holds; raises RuntimeError when any reading is missing or not a number."""
    arrays = store.arrays
    hidden = all(np.isfinite(store.hidden(place)).all() for place in store.setup.readouts)
    if not (arrays.present.all() and arrays.attention_present.all() and hidden):
        raise RuntimeError("readings are missing from the store")
    if not np.isfinite(arrays.attention).all():
        raise RuntimeError("attention that is not a number")
    return {
        "answers": len(store.records),
        "answer_tokens_mean": statistics.fmean(record.tokens for record in store.records),
        "samples_per_answer": len(store.records[0].samples),
        "hidden_states": len(store.setup.readouts),
        "attention_layers": len(store.setup.attention_layers),
    }


def size(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(shape: Shape, examples: Sequence[Example], device: str, toy: bool) -> dict[str, Any]:
    """One model: made, measured, let go."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    checkpoint, parameters = build(shape, examples, device, toy)
    built = time.perf_counter() - started
    some = Query(load_image(examples[0].image_path), examples[0].question, GENERATION.max_tokens)
    prompt = checkpoint.prepare(some, started)
    with tempfile.TemporaryDirectory() as scratch:
        found = asyncio.run(measure(checkpoint, examples, Path(scratch)))
    return {
        "model": shape.name,
        "parameters": parameters,
        "layers": checkpoint.identity.layers,
        "hidden_size": checkpoint.identity.hidden_size,
        "image_tokens": len(prompt.image_positions),
        "image_grid": prompt.grid,
        "prompt_tokens": prompt.length,
        "build_seconds": round(built, 2),
        **found,
        # The allocator's own record; on the CPU the process's, which keeps earlier models' peaks.
        "peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if on_gpu else None,
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Measure the models one after another in this process."""
    names = [shape.name for shape in SHAPES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="narrow and shallow, for a CPU")
    parser.add_argument("--out", type=Path, help="file for the JSON, too")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        examples = questions(Path(scratch), options.questions)
        for shape in SHAPES:
            if shape.name in options.models:
                results.append(run(shape, examples, options.device, options.toy))
                print(results[-1], file=sys.stderr, flush=True)
                gc.collect()
                torch.cuda.empty_cache()
    whole = {
        "weights": "random, toy size" if options.toy else "random",
        "dtype": "bfloat16",
        "generation": asdict(GENERATION),
        "image_pixels": PIXELS,
        "batch_rows": COLLECT_BATCH,
        "models": results,
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or "CPU",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(whole)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
