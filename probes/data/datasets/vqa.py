"""VQA v2, as published: a file of questions and a file of annotations, each one JSON object.

Goyal et al. 2017 (arXiv 1612.00837). ``v2_OpenEnded_mscoco_val2014_questions.json`` holds
``data_subtype`` and ``questions`` of ``image_id``, ``question``, ``question_id``;
``v2_mscoco_val2014_annotations.json`` holds ``annotations`` of ``question_id``, ``image_id``,
``answer_type`` and ten ``answers``. Images are named ``COCO_val2014_000000262148.jpg``. A record is
told by its place in its array. Annotations of questions that are not asked are left alone, so the
questions may be cut down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.data.datasets.example import Example, image, number, text
from probes.data.datasets.lines import check_writable, read_bytes
from probes.errors import DataError

ANSWERS = 10


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: int
    answer_type: str
    answers: tuple[str, ...]


def annotations_beside(questions: Path) -> Path:
    """Find the annotations beside the questions by their published name, or raise DataError."""
    name = questions.name.replace("OpenEnded_", "").replace("questions", "annotations")
    path = questions.with_name(name)
    if name == questions.name or not path.is_file():
        raise DataError(f"annotations: {name} is not beside {questions.name}; give --annotations")
    return path


def read_vqa(
    path: Path, images: Path, annotations: Path
) -> Iterator[tuple[str, Example | DataError]]:
    """Read questions and annotations. Raises DataError for a file without its array."""
    file, questions = _read(path, "questions")
    subtype = text(file, "data_subtype")
    if not re.fullmatch(r"\w+", subtype):
        raise DataError(f"{path.name}: data_subtype is {subtype!r}; it is a word such as val2014")
    known: dict[int, _Annotation] = {}
    broken: set[int] = set()
    for place, record in enumerate(_read(annotations, "annotations")[1], start=1):
        try:
            key = number(_object(record), "question_id")
            if key in known or key in broken:
                raise DataError(f"question_id: {key} stands in an earlier annotation already")
            broken.add(key)
            known[key] = _annotation(record)
            broken.remove(key)
        except DataError as error:
            yield f"annotation {place}", error
    for place, record in enumerate(questions, start=1):
        try:
            key = number(_object(record), "question_id")
            if key not in broken:  # its annotation's problem is reported already
                yield f"question {place}", _example(images, subtype, key, record, known)
        except DataError as error:
            yield f"question {place}", error


def _example(
    images: Path, subtype: str, key: int, record: Mapping[str, Any], known: dict[int, _Annotation]
) -> Example:
    if key not in known:
        raise DataError(f"question_id: {key} has no annotation")
    image_id = number(record, "image_id")
    if image_id != known[key].image_id:
        raise DataError(f"image_id: {image_id}, but its annotation has {known[key].image_id}")
    return Example(
        id=str(key),
        image_path=image(images, f"COCO_{subtype}_{image_id:012d}.jpg"),
        question=text(record, "question"),
        references=known[key].answers,
        kind=known[key].answer_type,
        slice=subtype,
        rule="vqa",
    )


def _annotation(record: Mapping[str, Any]) -> _Annotation:
    answers = record.get("answers")
    if not isinstance(answers, list) or len(answers) != ANSWERS:
        count = len(answers) if isinstance(answers, list) else "none"
        raise DataError(f"answers: {count}; VQA v2 has a list of {ANSWERS}")
    texts = [one.get("answer") if isinstance(one, dict) else None for one in answers]
    if not all(isinstance(one, str) for one in texts):
        raise DataError("answers: one of them has no text 'answer'")
    return _Annotation(
        image_id=number(record, "image_id"),
        answer_type=text(record, "answer_type"),
        answers=tuple(str(one) for one in texts),
    )


def _read(path: Path, name: str) -> tuple[Mapping[str, Any], list[Any]]:
    try:
        file = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: not JSON ({error})") from error
    if not isinstance(file, dict) or not isinstance(file.get(name), list):
        raise DataError(f"{path.name}: has no list {name!r}; give VQA v2's published files")
    return file, file[name]


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise DataError("not a JSON object")
    check_writable(record)
    return record
