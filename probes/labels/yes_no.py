"""Yes or no, as an answer says it in English."""

from __future__ import annotations

import re
import unicodedata

from probes.labels.text import normalise

# "Yes or no? No": the question's own words come back.
_ECHO = re.compile(r"\b(?:yes\s*(?:or|and|/)\s*no|no\s*(?:or|and|/)\s*yes|y\s*/\s*n)\b")
_NUMERO = re.compile(r"\bno\b\.?\s*#?\s*\d")
_NOT_A_NO = re.compile(r"\bnot (?:only|just|merely)\b|\b(?:no|without (?:a |any )?) ?doubt\b")
_VERDICT = re.compile(r"\b(?:answer|verdict|conclusion)(?: is|:)\W*(yes|no)\b")
_CLAUSES = re.compile(r"[.,;:!?\n()\"“”*]+|\s[-–—]\s|—")
_CONTRACTED = re.compile(r"n['’]t\b")

_PLAIN = {word: "yes" for word in ("yes", "yeah", "yep", "yup", "yes please")} | {
    word: "no" for word in ("no", "nope", "nah")
}
_WHOLE = {
    "yes": "y true correct right affirmative positive indeed absolutely definitely certainly sure "
    "surely exactly agreed",
    "no": "n false incorrect wrong negative none nothing never neither",
}
_PHRASES = {
    "yes": "of course|it is|it does|it has|there is|there are|they are|they do|i do|i think so|"
    "i believe so|that is correct|that is right|this is correct|there is one|i can",
    "no": "not at all|no way",
}
_FIRST = {word: verdict for verdict, words in _WHOLE.items() for word in words.split()}
_FIRST |= {phrase: verdict for verdict, all_of in _PHRASES.items() for phrase in all_of.split("|")}
_AFTER_NO = frozenset("there it i the this that these those they he she we you its im none".split())
_NEGATIONS = frozenset("no not none nothing never neither nor nobody nowhere cannot".split())
_YES_WORDS = frozenset(("yes", "yeah", "yep", "yup"))


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
