"""Which tokens of a prompt are the question's content words, and which the template around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probes.signals.prompt_side import content_spans
from probes.types import Missing


@dataclass(frozen=True, slots=True)
class Words:
    """Columns of a prompt.

    Args:
        content: of the question's content words, at least one.
        boundary: of the template's tokens between the image and the question and behind it, at
            least one.
    """

    content: tuple[int, ...]
    boundary: tuple[int, ...]


def find_words(
    tokenizer: Any, token_ids: Sequence[int], image_end: int, question: str
) -> Words | Missing:
    """Find the question's words among the tokens behind the image.

    Args:
        token_ids: of the whole prompt.
        image_end: column behind the last image token.

    Returns ``Missing`` with ``question_not_found`` (it stands before the image, or the tokenizer
    does not give it back as it was), ``no_content_words`` or ``no_boundary_tokens``.
    """
    spans = content_spans(question)
    if not spans:
        return Missing("no_content_words")
    tail = list(token_ids[image_end:])
    ends = [len(_text(tokenizer, tail[: count + 1])) for count in range(len(tail))]
    text = _text(tokenizer, tail)
    start = text.rfind(question)
    if start < 0:
        return Missing("question_not_found")
    content, boundary = [], []
    for column, (first, last) in enumerate(zip([0, *ends], ends, strict=False), start=image_end):
        if last <= start or first >= start + len(question):
            boundary.append(column)
        elif any(first < start + stop and last > start + begin for begin, stop in spans):
            content.append(column)
    if not boundary:
        return Missing("no_boundary_tokens")
    return Words(tuple(content), tuple(boundary)) if content else Missing("question_not_found")


def _text(tokenizer: Any, token_ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
    return text
