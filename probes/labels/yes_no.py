"""Yes or no, as an answer says it in English."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from probes.labels.doubt import without_accents, without_questions, words_of
from probes.labels.reservation import reserves
from probes.labels.text import normalise

# "(yes/no) No": the question's own words come back. "Yes and no" is no answer.
_ECHO = re.compile(r"\b(?:yes\s*(?:or|/)\s*no|no\s*(?:or|/)\s*yes|y\s*/\s*n)\b")
_BOTH = re.compile(
    r"\b(?:yes\s+and\s+no|no\s+and\s+yes|(?:not|neither)\s+(?:yes\s+n?or\s+no|no\s+n?or\s+yes))\b"
)
_NUMERO = re.compile(r"\bno\b\.?\s*#?\s*\d")
_NOT_A_NO = re.compile(r"\bnot (?:only|just|merely|no)\b|\b(?:no|without (?:a |any )?) ?doubt\b")
_VERDICT = re.compile(
    r"\b(?:answer|verdict|conclusion)(?: is|:)\W*(?P<said>yes|no)\b"
    r"(?=\W*(?:[.,;:!\n]|\Z|because|since|as|for|there|it)\b|\W*\Z|[.,;:!\n])"
)
_CLAUSES = re.compile(r"([.,;:!?\n()\"“”*]+|\s[-–—]\s|—)")
_CONTRACTED = re.compile(
    r"n['’]t\b|\b(?P<verb>is|are|was|were|do|does|did|has|have|had|would|could|should)nt\b"
)
_SHORT = (
    ("can't", "cannot"),
    ("can’t", "cannot"),
    ("there's", "there is"),
    ("there’s", "there is"),
)

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
_AFTER_YES = _AFTER_NO | words_of(
    """a an one two three four five six seven eight nine ten some several many both all at in on and
    of sir madam definitely absolutely clearly certainly indeed because since as but visible present
    yes yeah yep yup no nope nah my every each another exactly very please probably actually here"""
)
"""A word of yes begins an answer before these: "yes there is", not "yes is what you want"."""
_NEGATED = "no not none nothing never neither nor nobody nowhere cannot"
_NEGATIONS = frozenset(_NEGATED.split())
# In other languages they make a yes doubtful, and are no "no": aliases say what is one.
_FOREIGN = words_of(
    """nicht kein keine keiner keines keinen pas aucun aucune ningun ninguno ninguna non nessun
    nessuno nessuna nao nenhum nenhuma geen niet nie zaden"""
)
_JOINS = words_of("""but and so well however although though because since as then actually""")
_BEFORE_NOT = words_of(
    """is are was were am be do does did has have had can could will would should wo may must
    absolutely certainly definitely probably likely clearly surely course think believe actually
    apparently obviously simply it seems appears to"""
)
"""What "not" denies a whole clause behind; behind other words it is a contrast: "red, not blue"."""
_CONTRASTS = words_of("but however though although yet except only")
_ASSERTS = re.compile(r"(?:it|they|that|the(?: \w+){1,2}) (?:is|are|was|were|has|have)\b")
_POSITIVE = (["there", "is"], ["there", "are"])
_LACKING = words_of(
    """lack absence absent missing without free devoid few little zero 0 gone reason reasons room
    need way ways possibility possibilities problem problems issue glare noise blank rules telling
    question questions much shortage end"""
)
"""There may be these and no answer: "there is a lack of", "there is a way to find out"."""
_UNDONE = re.compile(
    r"\b(?:un(?!der|i|til)\w{4,}|undone|intact|without|free of|devoid|lack\w*|miss(?:es|ed)?|deny|"
    r"denies|denied|doubt\w*|dispute\w*|disagree\w*|wrong|incorrect|false|untrue|mistaken|"
    r"overlook\w*|ignored?|question\w*|matter|objections?|that (?:is|are|was|has))\b"
)
"""With a negation these say the opposite or another thing: "It is not undamaged"."""
_QUALITIES = words_of(
    """small big large little tiny huge minor major deep shallow severe serious good bad great nice
    clean important relevant serious trivial new long short wide narrow"""
)
"""Not to be so denies no thing: "The dent is not small"."""
_DOES = words_of(
    """have has contain show appear seem look exist include feature match fit sit lie touch face
    hold carry display bear"""
)
"""What a thing does not do where it is not so; "does not matter" and "does not work" say less."""
_BEINGS = words_of("it they he she that this these those there i we you its")
_BARE_NEGATIVES = words_of("none nothing neither nobody nowhere never")
_BEHIND_NEGATIVE = words_of(
    """visible present here there found seen shown is are was were at in on i of detected missing
    like that so whatsoever"""
)
_SEES = re.compile(
    r"^i (?:can |do |also |clearly )?(?:see|spot|find) (?:a|an|one|some|the|two|\d+)\b"
)


@lru_cache(maxsize=4096)
def parse_yes_no(text: str) -> str:
    """Return "yes", "no", or "" for neither; pass ``text`` without reasoning, see ``spoken``.

    A verdict by name comes first ("the answer is no"). Else each clause says yes, no or nothing:
    the words themselves, a statement's negation, "there is". Where they differ ("No, wait, yes",
    "Correct, there is none"), or the text doubts, hedges or sets a condition, nothing is read. "No.
    5" is a number, and an echo of "yes or no" says nothing.

    >>> parse_yes_no("There isn't a dog."), parse_yes_no("Yes or no? No"), parse_yes_no("No. 5")
    ('no', 'no', '')
    >>> parse_yes_no("No, wait, yes."), parse_yes_no("I am unable to look."), parse_yes_no("No?")
    ('', '', '')
    """
    folded = _NOT_A_NO.sub(" ", _fold(text))
    if reserves(folded):
        return ""
    if told := list(_VERDICT.finditer(folded)):
        before = re.split(r"[.,;:!\n]", folded[: told[-1].start()])[-1]
        if len({one["said"] for one in told}) > 1 or not _NEGATIONS.isdisjoint(before.split()):
            return ""
        earlier = {_interjection(one) for one in _clauses(folded[: told[-1].start()])} - {""}
        folded = ", ".join((*earlier, folded[told[-1].start("said") :]))
    return _read_clauses(_clauses(folded))


def _read_clauses(clauses: list[str]) -> str:
    """Return what all clauses say together, empty for nothing or both."""
    found = set[str]()
    if _trails_off(clauses):
        return ""
    for at, clause in enumerate(clauses):
        if clause in _FIRST and (at == 0 or found):
            found.add(_FIRST[clause])
            continue
        own = _polarity(clause)
        # Of a later clause a plain "there is", and "not blue", count against others alone.
        alone = (
            at == 0 or _interjection(clause) or (own == {"no"} and not clause.startswith("not "))
        )
        if alone or found or len(own) > 1:
            found |= own
    words = without_accents(" ".join(clauses)).split()
    if len(found) != 1 or (found == {"yes"} and not _FOREIGN.isdisjoint(words)):
        return ""
    return found.pop()


def _trails_off(clauses: list[str]) -> bool:
    """Return whether the text goes on in a way that the first clause's yes or no does not bear.

    "Sure" and its like count with what says the same; a statement ("The dent is not on the left")
    counts without another that corrects it.
    """
    first, *others = clauses or [""]
    if not others or _interjection(first):
        return False
    if first in _FIRST:
        return not any(_FIRST.get(one) or _polarity(one) for one in others)
    own = _statement(first.split())
    corrected = own == {"no"} and {"not", "cannot"} & set(first.split()) and first[:2] != "i "
    return bool(own) and any(
        one.split()[0] in _CONTRASTS
        or (corrected and not _polarity(one) and _ASSERTS.match(one) is not None)
        for one in others
    )


def says_yes_no(text: str) -> str:
    """Return "yes" or "no" where a text begins with the word by itself: "No, there is none".

    "No parking" and "No. 5" do not.
    """
    clauses = _clauses(_fold(text))
    return _interjection(clauses[0]) if clauses else ""


def with_meanings(text: str, means: Callable[[str], str]) -> str:
    """Replace each clause that is an alias by what it means."""
    parts = _CLAUSES.split(_fold(text))
    return "".join(means(part) if at % 2 == 0 else part for at, part in enumerate(parts))


def _fold(text: str) -> str:
    folded = without_questions(unicodedata.normalize("NFKC", text)).casefold()
    for short, long in _SHORT:
        folded = folded.replace(short, long)
    folded = _CONTRACTED.sub(r"\g<verb> not", folded)
    folded = re.sub(r"\bi['’]m\b", "i am", re.sub(r"\bcant\b", "cannot", folded))
    return _NUMERO.sub(" number ", _ECHO.sub(" , ", _BOTH.sub(" yesandno ", folded)))


def _clauses(folded: str) -> list[str]:
    return [clause for part in _CLAUSES.split(folded) if (clause := normalise(part))]


def _interjection(clause: str) -> str:
    if clause in _PLAIN:
        return _PLAIN[clause]
    first, *rest = clause.split()
    if first in _YES_WORDS:
        return "yes" if rest[0] in _AFTER_YES or rest[0].isdigit() else ""
    return "no" if first in _PLAIN and rest[0] in _AFTER_NO else ""


def _polarity(clause: str) -> set[str]:
    """Return a clause's "yes", "no", both or neither; of a stammer ("no yes yes") the first."""
    words = clause.split()
    bare = [word for word in words if word != "and"]
    if len(bare) > 1 and bare[0] in _PLAIN and bare[1] in _PLAIN:
        return {_PLAIN[bare[0]]}
    if words[0] in _JOINS and len(words) > 1:
        words = words[1:]
    head = _interjection(" ".join(words))
    if words[0] in _YES_WORDS and not head:  # "yes men", "yes is what you want to hear"
        return set()
    return ({head} if head else set()) | _statement(words[1:] if head else words)


def _statement(words: list[str]) -> set[str]:
    denied = [at for at, word in enumerate(words) if word in _NEGATIONS]
    affirmed = {"yes"} if not set(_YES_WORDS).isdisjoint(words) else set[str]()
    if denied and words[denied[0] + 1 : denied[0] + 2] == ["yes"]:  # "not yes"
        return {"no"}
    if words[:2] in _POSITIVE or _SEES.match(" ".join(words)):
        if words[:2] in _POSITIVE and words[2:3] in (["0"], ["zero"]):
            return {"no"}
        adverb = words[2:3] != [] and (words[2].endswith("ly") or words[2] in ("also", "still"))
        near = denied[:1] == [2] or (denied[:1] == [3] and adverb)
        if not near and (denied or _LACKING.isdisjoint(words)):
            affirmed = {"yes"}
    return affirmed | (_denial(words, denied) if denied else set())


def _denial(words: list[str], denied: list[int]) -> set[str]:
    """Return "no", or both where "not" is a contrast or a second negation undoes the first."""
    first = denied[0]
    if not _is_a_denial(words, first):
        return {"yes", "no"}
    contrast = words[first] == "not" and first > 0 and words[first - 1] not in _BEFORE_NOT
    twice = any(
        words[at] != "nor" and {"and", "or", "nor", "but"}.isdisjoint(words[first:at])
        for at in denied[1:]
    )
    return {"yes", "no"} if contrast or twice else {"no"}


def _is_a_denial(words: list[str], first: int) -> bool:
    """Return whether a negated clause denies the thing: "it is not bent", "no screw"."""
    word, behind = words[first], words[first + 1 :]
    if _UNDONE.search(" ".join(words[:first] + behind)):
        return False
    if first == 0 and word in _BARE_NEGATIVES:
        return not behind or (behind[0] in _BEHIND_NEGATIVE and word != "never")
    if first == 0 and behind[:1] == ["that"]:
        return behind[1:3] in (["i", "see"], ["i", "can"])
    if words[0] in ("do", "does", "did") and first == 1:  # "do not trust me"
        return False
    if word != "not" or not behind or first == 0:
        return True
    if words[first - 1] in ("do", "does", "did") and words[0] not in ("i", "we", "you"):
        return behind[0] in _DOES or behind[0].endswith("ly")
    return _QUALITIES.isdisjoint(behind[:2]) or words[0] in _BEINGS
