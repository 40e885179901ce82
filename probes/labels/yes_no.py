"""Yes or no, as an answer says it in English."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from probes.labels.text import normalise

# "Yes or no? No": the question's own words come back.
_ECHO = re.compile(r"\b(?:yes\s*(?:or|and|/)\s*no|no\s*(?:or|and|/)\s*yes|y\s*/\s*n)\b")
_NUMERO = re.compile(r"\bno\b\.?\s*#?\s*\d")
_NOT_A_NO = re.compile(r"\bnot (?:only|just|merely|no)\b|\b(?:no|without (?:a |any )?) ?doubt\b")
_VERDICT = re.compile(r"\b(?:answer|verdict|conclusion)(?: is|:)\W*(yes|no)\b")
_CLAUSES = re.compile(r"[.,;:!?\n()\"“”*]+|\s[-–—]\s|—")
_CONTRACTED = re.compile(r"n['’]t\b")

_YES_WORDS = ("yes", "yeah", "yep", "yup")
_NO_WORDS = ("no", "nope", "nah")
# A first clause that is one of these as a whole; elsewhere they say other things.
_YES_CLAUSES = (
    "y|true|correct|right|affirmative|positive|indeed|absolutely|definitely|certainly|sure|surely|"
    "exactly|agreed|of course|it is|it does|it has|there is|there are|they are|they do|i do|"
    "i think so|i believe so|that is correct|that is right|thats right|thats correct|that is true|"
    "it is true|this is correct|there is one|i can"
)
_NO_CLAUSES = "n|false|incorrect|wrong|negative|none|nothing|never|neither|not at all|no way"
_PLAIN = dict.fromkeys(_YES_WORDS, "yes") | dict.fromkeys(_NO_WORDS, "no")
_FIRST = dict.fromkeys(_YES_CLAUSES.split("|"), "yes") | dict.fromkeys(_NO_CLAUSES.split("|"), "no")
_PRONOUNS = "there it i the this that these those they he she we you its im"
_AFTER_NO = frozenset(_PRONOUNS.split())
_NEGATED = "no not none nothing never neither nor nobody nowhere cannot"
_NEGATIONS = frozenset(_NEGATED.split())


@lru_cache(maxsize=4096)
def parse_yes_no(text: str) -> str:
    """ "yes", "no", or "" where a text is neither; ``text`` without reasoning, see ``spoken``.

    A verdict by name comes first ("the answer is no"), then a clause that is yes or no as a whole,
    then a negation anywhere, and "There is a dog." is a yes. "No. 5" is a number, and an echo of
    "yes or no" says nothing.

    >>> parse_yes_no("There isn't a dog."), parse_yes_no("Yes or no? No"), parse_yes_no("No. 5")
    ('no', 'no', '')
    """
    folded = _fold(text)
    if told := _VERDICT.findall(folded):
        return str(told[-1])
    clauses = _clauses(folded)
    if not clauses:
        return ""
    for at, clause in enumerate(clauses):
        if found := _interjection(clause) or (_FIRST.get(clause, "") if at == 0 else ""):
            return found
    return _by_words(normalise(_NOT_A_NO.sub(" ", folded)).split())


def says_yes_no(text: str) -> str:
    """ "yes" or "no" where a text begins with the word by itself, such as "No, there is none".

    "No parking" and "No. 5" do not.
    """
    clauses = _clauses(_fold(text))
    return _interjection(clauses[0]) if clauses else ""


def first_clause(text: str) -> str:
    """Up to the first punctuation, in lower case; empty where there is no word."""
    return next(iter(_clauses(_fold(text))), "")


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = _CONTRACTED.sub(" not", folded.replace("can't", "cannot").replace("can’t", "cannot"))
    return _NUMERO.sub(" number ", _ECHO.sub(" ", folded))


def _clauses(folded: str) -> list[str]:
    return [clause for part in _CLAUSES.split(folded) if (clause := normalise(part))]


def _interjection(clause: str) -> str:
    if clause in _PLAIN:
        return _PLAIN[clause]
    first, *rest = clause.split()
    if first in _YES_WORDS:
        return "yes"
    return "no" if first in _PLAIN and rest[0] in _AFTER_NO else ""


def _by_words(words: list[str]) -> str:
    for word in words:
        if word in _YES_WORDS:
            return "yes"
        if word in _NEGATIONS:
            return "no"
    return "yes" if words[:2] in (["there", "is"], ["there", "are"]) else ""
