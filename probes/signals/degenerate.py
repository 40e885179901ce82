"""Answers that nobody could mean: nothing, markup of the model's own, or a loop.

A risk is calibrated on answers that are right or wrong. What a model stammers after losing the
thread is neither, and its risk means nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from probes.labels.text import normalise
from probes.types import AnswerForm

_MARKUP = re.compile(
    r"<\|[^|<>]*\|>|</?(?:unk|pad|s|bos|eos|image|mask|think|(?:start|end)_of_turn)>"
    r"|\[/?INST\]|<0x[0-9A-F]{2}>|\ufffd"
)
_WHOLE = 3
"""Times that a unit stands in a row when it is the whole answer: "no no no"."""
_WITHIN = 4
"""Times in a row within a longer answer, where several words take :data:`_WHOLE`."""
_STAMMER, _STAMMERED = 5, 0.75
"""An answer of so many words, of which one word is this share: "no no no 1 no"."""
_LETTERS = re.compile(r"([^\W\d_]{2,20}?)\1{2,}|([^\W\d_])\2{4,}")
"""A loop without blanks: nonono, aaaaa."""
_DIGITS = re.compile(r"(\d{1,4}?)\1{11,}")
"""Numbers repeat digits by themselves (1000000), but not a dozen times."""
_LONGEST = 12
"""Words of the longest unit that is looked for: a judgement must not cost more than an answer."""
_NUMERALS = 6
"""Times that a number stands in a row where all words are numbers: a display may show 0 0 0."""
_YES, _NO = frozenset(("yes", "yeah", "yep", "yup")), frozenset(("no", "nope", "nah"))
_NUMERAL = re.compile(r"-?\d[\d.,:/]*")


def measure_form(answer: str) -> AnswerForm:
    """Return whether an answer is degenerate, and how.

    >>> measure_form("no no no 1 no"), measure_form("no yes")
    (AnswerForm(degenerate='repeats'), AnswerForm(degenerate='repeats'))
    >>> measure_form("a red washer and a red screw")
    AnswerForm(degenerate=None)
    """
    if _MARKUP.search(answer) or any(_controls(character) for character in answer):
        return AnswerForm("not_words")
    text = normalise(answer)
    if not text:
        return AnswerForm("empty")
    words = text.split()
    if _LETTERS.search(text) or _DIGITS.search(text):
        return AnswerForm("repeats")
    if _stammers(words) or _wavers(words) or _loops(words):
        return AnswerForm("repeats")
    return AnswerForm(None)


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") and character not in "\n\r\t"


def _stammers(words: list[str]) -> bool:
    (word, count), *_ = Counter(words).most_common(1)
    return len(words) >= _STAMMER and not word.isnumeric() and count >= _STAMMERED * len(words)


def _wavers(words: list[str]) -> bool:
    """Return whether an answer is bare "yes" and "no", or one of them among numbers: "no 0 0".

    "Yes and no", "No. 5" and "Yes, 3" are answers.
    """
    bare = [word for word in words if word != "and" or len(words) == _WHOLE]
    said = {word for word in bare if not _NUMERAL.fullmatch(word)}
    if not said or not said <= _YES | _NO:
        return False
    both = not said.isdisjoint(_YES) and not said.isdisjoint(_NO)
    return both or (len(bare) >= _WHOLE and any(map(_NUMERAL.fullmatch, bare)))


def _loops(words: list[str]) -> bool:
    """Return whether some run of words comes again and again."""
    numbers = all(word.isnumeric() for word in words)
    for length in range(1, min(_LONGEST, (len(words) + 1) // _WHOLE) + 1):
        run = 0
        for at in range(length, len(words)):
            run = run + 1 if words[at] == words[at - length] else 0
            cut = length >= _WHOLE and at + 1 == len(words)  # the last time may lack its last word
            times = 1 + (run + cut) // length
            if times < _WHOLE:
                continue
            enough = _WHOLE if length > 1 or run + 1 == len(words) else _WITHIN
            if times >= (_NUMERALS if numbers else enough):
                return True
    return False
