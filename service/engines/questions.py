"""Questions in the form that a model gets: plain words, which cannot pose as the template.

What the vocabulary or the template gives a meaning is refused: control words, special or not, and
what begins a turn. A line's end, which templates give one too, becomes a blank.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from service.engines.base import QueryRefused
from service.engines.families import Family

_LINE_ENDS = re.compile(r"[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_MARKUP = re.compile(r"<\|[^\s|]+\|>|<[A-Za-z_]+[0-9]+>")
"""Words that no text is split into: if a vocabulary lists one, the model was trained on it."""
_UNSEEN = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Beside category Cf: joiners, fillers and variation selectors, which nobody sees."""
_BLANKS = " \t\n\u2581"
"""What a token for blanks holds; the last is how vocabularies write one."""


class Questions:
    """Checks and flattens questions for one checkpoint.

    Args:
        processor: with ``tokenizer`` and ``image_token``.
        family: whose template the question is put into.
    """

    def __init__(self, processor: Any, family: Family) -> None:
        self._tokenizer, self._image_token = processor.tokenizer, processor.image_token
        self._control = control_words(self._tokenizer)
        self._turns = turn_words(family.prompt(processor, "?"), self._control.values())

    def plain(self, question: str) -> str:
        """The question on one line. Raises QueryRefused, which names what is to be removed."""
        lines = _LINE_ENDS.split(question)
        flat = question if len(lines) == 1 else " ".join(filter(None, map(str.strip, lines)))
        for letter in flat:
            if letter != "\t" and unicodedata.category(letter) == "Cc":
                raise QueryRefused(
                    f"question: contains the control character U+{ord(letter):04X}; remove it"
                )
        for reading in readings(flat):
            self._check(reading)
        return flat

    def _check(self, reading: str) -> None:
        if self._image_token in reading:
            raise QueryRefused(
                f"question: contains the image placeholder {self._image_token}; "
                "one image per question is supported, remove it"
            )
        for token_id in self._tokenizer.encode(reading, add_special_tokens=False):
            word = self._control.get(token_id)
            # The unknown word stands for any other.
            if word is not None and (word != self._tokenizer.unk_token or word in reading):
                raise QueryRefused(
                    f"question: contains the model's control token {word}; remove it"
                )
        for word, pattern in self._turns.items():
            if pattern.search(reading):
                raise QueryRefused(
                    f"question: contains {word}, which begins a turn in the model's template; "
                    f"remove it, or write it without the {word[-1]}"
                )


def readings(question: str) -> list[str]:
    """The question as it is, and what a reader or another tokenizer may take it for.

    Compatibility forms (fullwidth letters) made plain, invisible characters left out.
    """
    seen = "".join(
        one for one in question if unicodedata.category(one) != "Cf" and not _UNSEEN.match(one)
    )
    return list(dict.fromkeys((question, seen, unicodedata.normalize("NFKC", seen))))


def control_words(tokenizer: Any) -> dict[int, str]:
    """Tokens that the vocabulary gives a meaning, by id.

    Special tokens, all that were added to the vocabulary beside its words, and words in the form
    of markup. Blanks and line ends are not among them.
    """
    found = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    found |= {number: one.content for number, one in tokenizer.added_tokens_decoder.items()}
    vocabulary = tokenizer.get_vocab()
    found |= {number: word for word, number in vocabulary.items() if _MARKUP.fullmatch(word)}
    return {number: word for number, word in found.items() if word.strip(_BLANKS)}


def turn_words(prompt: str, control: Any) -> dict[str, re.Pattern[str]]:
    """Words of a template that are no control tokens and no prose, such as ``USER:``, ``[INST]``.

    Args:
        prompt: of a question, with the template around it.
        control: the control words in it, which are refused as such.
    """
    for word in sorted((word for word in control if word in prompt), key=len, reverse=True):
        prompt = prompt.replace(word, " ")
    turns = [word for word in prompt.split() if not word[-1].isalnum() and word[-1] not in ".,!?'"]
    return {word: re.compile(rf"{re.escape(word[:-1])}\s*{re.escape(word[-1])}") for word in turns}
