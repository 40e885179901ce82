"""Templates with slots, learned from questions that are equal but for single words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """Questions of one wording.

    Args:
        places: per word the words seen there; a slot has several, every other place one.
    """

    places: tuple[frozenset[str], ...]

    def __str__(self) -> str:
        return " ".join(
            next(iter(seen)) if len(seen) == 1 else "{" + "|".join(sorted(seen)) + "}"
            for seen in self.places
        )


def learn_templates(questions: Iterable[str]) -> tuple[Template, ...]:
    """Learn templates of distinct questions, in the order of their first question.

    A place is a slot of a question where another question differs from it in that word alone;
    questions that are equal outside their slots share a template, and each slot holds every word
    that they, or those that differ from them there, had in it.
    """
    split = [tuple(question.split(" ")) for question in questions]
    alike: defaultdict[tuple[int, tuple[str, ...]], set[str]] = defaultdict(set)
    for words in split:
        for at, word in enumerate(words):
            alike[at, _without(words, at)].add(word)
    joined: dict[tuple[str | None, ...], list[set[str]]] = {}
    for words in split:
        frame = tuple(
            None if len(alike[at, _without(words, at)]) > 1 else word
            for at, word in enumerate(words)
        )
        places = joined.setdefault(frame, [set() for _ in words])
        for at, seen in enumerate(places):
            seen |= alike[at, _without(words, at)]
    return tuple(Template(tuple(map(frozenset, places))) for places in joined.values())


def fits_template(question: str, templates: Sequence[Template]) -> bool:
    """Return whether some template makes the question, with a seen value in every slot."""
    words = question.split(" ")
    return any(
        len(words) == len(one.places)
        and all(word in seen for word, seen in zip(words, one.places, strict=True))
        for one in templates
    )


def _without(words: tuple[str, ...], at: int) -> tuple[str, ...]:
    return (*words[:at], *words[at + 1 :])
