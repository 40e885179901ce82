from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from probes.data.datasets import load_dataset
from probes.errors import DataError

COCO = ("COCO_val2014_000000310196.jpg", "COCO_val2014_000000262148.jpg")

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
INFO = {
    "description": "This is v2.0 of the VQA dataset.",
    "url": "http://visualqa.org",
    "version": "2.0",
    "year": 2017,
    "contributor": "VQA Team",
    "date_created": "2017-04-26 17:00:44",
}
LICENSE = {
    "url": "http://creativecommons.org/licenses/by/4.0/",
    "name": "Creative Commons Attribution 4.0 International License",
}


def question(key: int, **changes: Any) -> dict[str, Any]:
    return {"image_id": 262148, "question": "Where is he looking?", "question_id": key, **changes}


def annotation(key: int, **changes: Any) -> dict[str, Any]:
    answers = [
        {"answer": "down", "answer_confidence": "yes", "answer_id": place} for place in range(1, 11)
    ]
    answers[3] = {"answer": "at table", "answer_confidence": "maybe", "answer_id": 4}
    return {
        "question_type": "none of the above",
        "multiple_choice_answer": "down",
        "answers": answers,
        "image_id": 262148,
        "answer_type": "other",
        "question_id": key,
        **changes,
    }


def write(folder: Path, questions: list[Any], annotations: list[Any]) -> Path:
    """Two files as published: one line each, these fields in this order."""
    head: dict[str, Any] = {
        "info": INFO,
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": LICENSE,
        "data_subtype": "val2014",
    }
    (folder / QUESTIONS).write_text(json.dumps({**head, "questions": questions}))
    tail = {name: head[name] for name in ("license", "data_subtype", "data_type")}
    both = {"info": INFO, **tail, "annotations": annotations}
    (folder / ANNOTATIONS).write_text(json.dumps(both))
    return folder / QUESTIONS


def test_the_published_format(folder: Path) -> None:
    path = write(folder, [question(262148000)], [annotation(7), annotation(262148000)])
    (example,), problems = load_dataset(path)
    assert problems == ()  # an annotation of a question that is not asked is none
    assert (example.id, example.question) == ("262148000", "Where is he looking?")
    assert example.image_path == folder / COCO[1]
    assert len(example.references) == 10
    assert example.references[2:4] == ("down", "at table")
    assert (example.kind, example.slice, example.rule) == ("other", "val2014", "vqa")


BAD_ANNOTATIONS: list[tuple[Any, str]] = [
    (annotation(11, answers=annotation(11)["answers"][:9]), "answers: 9"),
    (annotation(12, answers="down"), "answers: none"),
    (annotation(13, answers=[{"answer": 3}] * 10), "'answer'"),
    (annotation(14, answer_type=""), "answer_type:"),
    (annotation(15, image_id=None), "image_id:"),
    (annotation(1), "question_id: 1 stands in an earlier annotation"),
    (annotation(16, question_id="16"), "question_id:"),
    ("down", "not a JSON object"),
]
BAD_QUESTIONS: list[tuple[Any, str]] = [
    (question(31, question=" "), "question:"),
    (question(32, image_id=262149), "image_id: 262149, but its annotation has 262148"),
    (question(33, image_id=1.5), "image_id:"),
    (question(-34), "question_id:"),
    (None, "not a JSON object"),
    (question(36), "question_id: 36 has no annotation"),
    (question(37, image_id=5), "image: COCO_val2014_000000000005.jpg does not exist"),
    (question(1), "id: '1' stands on question 1 already"),
]


def test_every_malformed_record_is_told_and_the_rest_is_used(folder: Path) -> None:
    good = [
        annotation(1),
        *(annotation(key) for key in (2, 31, 32, 33)),
        annotation(37, image_id=5),
    ]
    annotations = [*good, *(bad for bad, _ in BAD_ANNOTATIONS)]
    asked = [question(1), *(bad for bad, _ in BAD_QUESTIONS), question(11), question(2)]
    examples, problems = load_dataset(write(folder, asked, annotations))
    assert [one.id for one in examples] == ["1", "2"]
    # Question 11 is left out because of its annotation, which is told once. Annotation 1 is the
    # earlier one's; its question stays.
    expected = [
        (f"annotation {place}: ", message)
        for place, (_, message) in enumerate(BAD_ANNOTATIONS, start=7)
    ] + [
        (f"question {place}: ", message)
        for place, (_, message) in enumerate(BAD_QUESTIONS, start=2)
    ]
    assert len(problems) == len(expected) >= 10
    for problem, (start, message) in zip(problems, expected, strict=True):
        assert str(problem).startswith(start)
        assert message in str(problem)


def test_annotations_elsewhere(folder: Path) -> None:
    path = write(folder, [question(1)], [annotation(1)])
    (folder / ANNOTATIONS).rename(folder / "kept.json")
    with pytest.raises(DataError, match="give --annotations"):
        load_dataset(path)
    examples, _ = load_dataset(path, annotations=folder / "kept.json")
    assert len(examples) == 1


def test_files_that_are_not_vqa(folder: Path) -> None:
    path = write(folder, [question(1)], [annotation(1)])
    with pytest.raises(DataError, match="no list 'annotations'"):
        load_dataset(path, annotations=path)
    (folder / "d.csv").write_text("image,question,answers\na.png,Is it red?,yes\n")
    with pytest.raises(DataError, match="annotations: format csv has none"):
        load_dataset(folder / "d.csv", annotations=path)
    (folder / ANNOTATIONS).write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load_dataset(path)
