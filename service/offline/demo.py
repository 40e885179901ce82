"""The demonstration: held-out line images and photographs, asked of a real service."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from probes.labels import judge
from probes.labels.rule import LabelRule
from service.client import Client
from service.offline.own_service import local_service
from testbed.drawing import render
from testbed.photographs import photographs
from testbed.questions import ask
from testbed.scenes import make_scene

# Scenes that neither the model nor the bundle has seen: their seeds lie in a range of their own.
FIRST_SEED = 200_000
LINE_IMAGES = 40
PHOTOGRAPHS = 8


@dataclass(frozen=True, eq=False)
class Shown:
    """A question of the demonstration with its true answers, and what the service said."""

    image_name: str
    image: NDArray[np.uint8]
    question: str
    truths: tuple[str, ...]
    rule: LabelRule
    photograph: bool

    def judge(self, answer: str) -> bool:
        """Whether the answer is right."""
        return not judge(answer, self.truths, self.rule).wrong


def shown() -> Iterator[Shown]:
    """One question per image: the line images first, then the photographs."""
    for seed in range(FIRST_SEED, FIRST_SEED + LINE_IMAGES):
        scene = make_scene(seed, "line")
        question = ask(scene, np.random.default_rng(seed), n=1)[0]
        name, truths = f"line {seed}", question.answers
        yield Shown(name, render(scene), question.text, truths, question.rule, False)
    for photograph in list(photographs())[:PHOTOGRAPHS]:
        text, truth = photograph.questions[0]
        yield Shown(photograph.name, photograph.image, text, (truth,), "match", True)


def ask_service(client: Client, image: NDArray[np.uint8], question: str) -> dict[str, Any]:
    """Ask about a PNG of the image. Raises ClientError."""
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "PNG", compress_level=1)
    return client.answer(stored.getvalue(), question).model_dump()


def run_demo() -> None:
    """Start a service, ask, print the table and the two accuracies, stop the service."""
    console = Console(width=None if Console().is_terminal else 120)
    with local_service() as url, Client(url) as client:
        console.print(f"A service runs on {url}; asking about {LINE_IMAGES + PHOTOGRAPHS} images.")
        told = [
            (one, ask_service(client, one.image, one.question))
            for one in track(list(shown()), "asking", console=console)
        ]
    console.print(_table(told))
    for line in _summary(told):
        console.print(line, highlight=False)


def _table(told: list[tuple[Shown, dict[str, Any]]]) -> Table:
    table = Table(title="held-out line images, then photographs from elsewhere")
    for column in ("image", "question", "answer", "truth", "risk", "decision", "reason"):
        table.add_column(column, justify="right" if column == "risk" else "left")
    for one, body in told:
        score = body["risk"]["score"]
        table.add_row(
            one.image_name,
            one.question,
            body["answer"],
            one.truths[0] if one.judge(body["answer"]) else f"[red]{one.truths[0]}[/red]",
            "-" if score is None else f"{score:.2f}",
            body["decision"],
            body["reason"].replace("_", " "),
        )
    return table


def _summary(told: list[tuple[Shown, dict[str, Any]]]) -> Iterator[str]:
    right = [one.judge(body["answer"]) for one, body in told]
    accepted = [
        ok for ok, (_, body) in zip(right, told, strict=True) if body["decision"] == "accept"
    ]
    outside = [body for one, body in told if one.photograph]
    escalated = sum(body["reason"] == "out_of_domain" for body in outside)
    certificate = told[0][1]["certificate"]
    yield f"accuracy of all {len(right)} answers: {np.mean(right):.1%}"
    yield (
        f"accuracy of the {len(accepted)} accepted: {np.mean(accepted):.1%}"
        if accepted
        else "accuracy of the accepted: none was accepted"
    )
    yield f"photographs escalated as out of domain: {escalated} of {len(outside)}"
    yield (
        f"certificate: none ({certificate['missing']})"
        if "missing" in certificate
        else f"certificate {certificate['id']}: at most {certificate['alpha']:.0%} of accepted "
        f"line answers wrong, with confidence {1 - certificate['delta']:.0%}"
    )
