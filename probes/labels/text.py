"""An answer's words, in the forms in which answers are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from probes.labels.numerals import as_digits

_TAG = r"[<◁]\|?{0}(?:think|thinking|thought|reasoning)\|?[>▷]"
_OPEN, _CLOSE = _TAG.format(""), _TAG.format("/")
_REASONING = re.compile(rf"{_OPEN}.*?(?:{_CLOSE}|\Z)|\A.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_LEAD = re.compile(
    r"\A\W*(?:the\s+|my\s+)?(?:final\s+|correct\s+|right\s+)?answer\s*(?:\*\*)?(?:is\b\s*:?|:)\s*",
    re.IGNORECASE,
)

_HEADINGS = re.compile(r"^\s*#+\s+", re.MULTILINE)
_MINUS = re.compile(r"[−–‐‑](?=\d)")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_GRADE = re.compile(r"(?<!\w)([^\W_])[-−](?!\w)")
_APOSTROPHES = re.compile(r"(?<=\w)['’](?=\w)")
# Symbols that tell answers apart are words of their own: C#, A+, 5 %, $5, < 3.
_SYMBOLS = re.compile(r"[#%@+$€£¥°<>=±×−]")
# Punctuation goes, but not where it is part of a number: 3.5, 12:30, -2.
_PUNCTUATION = re.compile(
    r"(?<=\d)[.,:/](?=\d)|(?<![^\s])-(?=\d)|[#%@+$€£¥°<>=±×−]|([^\w\s]|_)",
)
_ARTICLES = frozenset(("a", "an", "the"))


def spoken(answer: str) -> str:
    """What is said at the end: no reasoning (``<think>...``, closed or not), no "Answer:" before.

    >>> spoken("<think>no or yes?</think>Final answer: Yes.")
    'Yes.'
    >>> spoken("<think>It could be no")
    ''
    """
    said = _REASONING.sub("", answer)
    if tagged := _TAGGED.findall(said):
        said = tagged[-1]
    return _LEAD.sub("", said).strip()


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Lower case, no punctuation, single blanks, no commas between thousands.

    >>> normalise(" Yes, there IS. ")
    'yes there is'
    >>> normalise("It's 1,000.5 mm of C#")
    'its 1000.5 mm of c #'
    """
    return " ".join(_words(text)).casefold()


@lru_cache(maxsize=4096)
def match_form(text: str) -> str:
    """As :func:`normalise`, with numbers as digits and without articles.

    An article is one only before the word it belongs to, so the names "A" and "exit A" stay whole.

    >>> match_form("The twenty-one red washers")
    '21 red washers'
    >>> match_form("Exit A"), match_form("A")
    ('exit a', 'a')
    """
    words = _words(text)
    kept = [word.casefold() for at, word in enumerate(words) if not _is_article(words, at)]
    return " ".join(as_digits(kept))


def _words(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text)
    text = _MINUS.sub("-", _HEADINGS.sub("", text)).replace("&", " and ")
    text = _GROUPED.sub(lambda match: match.group(0).replace(",", ""), text)
    text = _GRADE.sub(r"\1− ", _APOSTROPHES.sub("", text))
    text = _PUNCTUATION.sub(lambda match: " " if match.group(1) else match.group(0), text)
    return _SYMBOLS.sub(r" \g<0> ", text).split()


def _is_article(words: list[str], at: int) -> bool:
    word = words[at].casefold()
    if word not in _ARTICLES or at + 1 == len(words):
        return False
    if word != "a":
        return True
    if words[at] == "A" and at > 0:  # a capital in the middle is a name: exit A north
        return False
    following = words[at + 1]
    if following[0].isdigit():  # "A 5" is a gate, "a 5 mm hole" a hole
        return at + 2 < len(words)
    return following.isalpha() and len(following) > 1
