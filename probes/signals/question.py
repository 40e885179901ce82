"""The domain's question side: whether a question is like those that the gate was trained on.

The words decide, not the hidden states: what a model read of a foreign question at the last prompt
token looks like what it read of any other (docs/decisions/0013). A trigram model of the training
questions, reduced to what they are about, gives each word's surprise; a question is as foreign as
its most surprising word. Fixed lines can ask for the training questions themselves, or their
templates, instead.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from probes.signals.question_templates import Template, fits_template, learn_templates
from probes.signals.question_words import skeleton
from probes.types import QuestionDomain, QuestionMode

QUESTION_MODES: tuple[QuestionMode, ...] = get_args(QuestionMode)

_ORDER = 3
_UNSEEN = 1 / 50_000
"""Chance of any word where nothing is known: a language has about so many."""
_START, _END = "<", ">"
_BLANKS = re.compile(r"[ \t\r\n]{1,3}")


@dataclass(frozen=True, eq=False)
class QuestionModel:
    """The questions that the gate was trained on, and how far a new one may differ.

    Args:
        questions: the distinct ones of the fit split, blanks collapsed, sorted.
        counts: how often each was asked, >= 1.
        limit: largest surprise, in bits, that counts as inside in mode ``any``.
        mode: ``exact``: the training questions alone; ``template``: also with other seen values in
            the places where they differ; ``any``: whatever is no more surprising than ``limit``.
    """

    questions: tuple[str, ...]
    counts: tuple[int, ...]
    limit: float
    mode: QuestionMode

    def __post_init__(self) -> None:
        if self.mode not in QUESTION_MODES:
            raise ValueError(f"mode: {self.mode!r}; use one of {', '.join(QUESTION_MODES)}")
        if len(self.questions) != len(self.counts) or not self.questions:
            raise ValueError(f"counts: {len(self.counts)} for {len(self.questions)} questions")
        if any(type(count) is not int or count < 1 for count in self.counts):
            raise ValueError("counts: each is a whole number of at least 1")

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """The templates of the training questions, with the values of their slots."""
        return learn_templates(self.questions)

    @cached_property
    def _followers(self) -> Mapping[tuple[str, ...], tuple[Counter[str], int, int]]:
        """How often each word followed none, one or two words, any did, and a word just once."""
        found: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for question, count in zip(self.questions, self.counts, strict=True):
            for before, word in _steps(question):
                for length in range(_ORDER):
                    found[before[_ORDER - 1 - length :]][word] += count
        return {
            before: (words, words.total(), sum(count == 1 for count in words.values()))
            for before, words in found.items()
        }

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.questions)

    def prepare(self) -> None:
        """Compute what judging needs ahead, so that no request waits for it."""
        _ = self._followers, self._exact
        if self.mode == "template":
            _ = self.templates

    def surprise(self, question: str) -> float:
        """Return the surprise of the question's least expected word, >= 0, bits."""
        return max(-math.log2(self._chance(word, before)) for before, word in _steps(question))

    def _chance(self, word: str, before: tuple[str, ...]) -> float:
        """Return the chance of a word after two others, interpolated with shorter contexts.

        What a context keeps for words that it never saw goes by how many it saw just once (method X
        of Witten & Bell 1991): a line that has often asked the same few things surprises rarely.
        """
        chance = _UNSEEN
        for length in range(_ORDER):
            known = self._followers.get(before[_ORDER - 1 - length :])
            if known is None:
                break
            seen, total, once = known
            chance = (seen[word] + (once + 1) * chance) / (total + once + 1)
        return chance

    def inside(self, question: str, surprise: float | None = None) -> bool:
        """Return whether a question is inside; ``surprise`` where the caller knows it already."""
        if self.mode == "any":
            bits = self.surprise(question) if surprise is None else surprise
            return bits <= self.limit
        text = collapse(question)
        if text in self._exact:
            return True
        return self.mode == "template" and fits_template(text, self.templates)

    def same_questions(self, other: QuestionModel) -> bool:
        """Return whether both models give every question the same surprise."""
        return (self.questions, self.counts) == (other.questions, other.counts)


def measure_question(question: str, model: QuestionModel) -> QuestionDomain:
    """Measure how far a question is from those of training."""
    surprise = model.surprise(question)
    return QuestionDomain(surprise, model.inside(question, surprise), model.mode)


def collapse(question: str) -> str:
    """Collapse blanks: the form in which whole questions are compared.

    More than three at once stay, and so do blanks of other kinds: a model reads them as tokens.
    """
    return _BLANKS.sub(" ", question).removeprefix(" ").removesuffix(" ")


def _steps(question: str) -> list[tuple[tuple[str, ...], str]]:
    """Yield each word of a question's skeleton, and its end, with the two words before it."""
    words = (*(_START,) * (_ORDER - 1), *skeleton(question), _END)
    return [(words[at - _ORDER + 1 : at], words[at]) for at in range(_ORDER - 1, len(words))]
