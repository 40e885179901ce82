"""Scenes and questions as a dataset on disk: ``python -m testbed.dataset line --out runs/line``.

Writes ``images/<seed>.png`` and ``questions.jsonl`` in the format of :mod:`probes.data.datasets`.
The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from joblib import Parallel, delayed
from PIL import Image

from testbed.drawing import render
from testbed.questions import Question, ask
from testbed.scenes import Domain, Scene, make_scene, scene_rng


def asked_of(scene: Scene, questions: int) -> list[Question]:
    """The dataset's questions about one scene."""
    return ask(scene, scene_rng(scene.seed, scene.domain, 211), n=questions)


def _write_scene(folder: Path, domain: Domain, seed: int, questions: int) -> list[str]:
    scene = make_scene(seed, domain)
    image = f"images/{seed}.png"
    Image.fromarray(render(scene)).save(folder / image, compress_level=3)
    return [
        json.dumps(
            {
                "id": f"{domain}-{seed}-{number}",
                "image": image,
                "question": question.text,
                "references": list(question.answers),
                "kind": question.kind,
                "slice": question.strategy or "all",
                "rule": question.rule,
            }
        )
        for number, question in enumerate(asked_of(scene, questions))
    ]


def write_dataset(folder: Path, domain: Domain, seeds: Sequence[int], questions: int) -> None:
    """Render the scenes of ``seeds`` with ``questions`` questions each into ``folder``."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = Parallel(n_jobs=-1)(
        delayed(_write_scene)(folder, domain, seed, questions) for seed in seeds
    )
    text = "".join(f"{line}\n" for some in lines for line in some)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write scenes and questions as a dataset.")
    parser.add_argument("domain", choices=get_args(Domain))
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--questions", type=int, default=3, help="per scene")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.scenes)
    write_dataset(options.out, options.domain, seeds, options.questions)


if __name__ == "__main__":
    main()
