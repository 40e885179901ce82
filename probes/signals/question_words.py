"""A question without the words that only ask: what is left is what it is about.

"Can you see a dent on the housing?" and "Is there a dent on the housing?" are about the same thing;
"Is there a triangle?" is not. Only small words go wherever they stand. Persons, modal verbs and
verbs that ask, see or place go in the turns of phrase where they add nothing: "Do you see a dent?"
asks for a dent, "Do you need a dent?" and "Should there be a dent?" do not. The phrases are
English. In another language every word counts, so that a paraphrase lies further from the training
questions than it would in English.
"""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import category, normalize

from probes.labels.text import normalise

IS, WHICH, COUNT, SAID, BARE = "#is", "#which", "#count", "#said", "#bare"
"""Forms: whether something is so, what or which it is, how many there are; nothing is asked; a
question mark behind words without one that asks, such as "Screw the plate?"."""

# Not among them, because they change what is asked: negations, and, or, all, only, who, where,
# when, why, comparisons, numbers, persons, other tenses, can, should, would and their like.
_SMALL_WORDS = """
a an the this that these those there theres here is are do does has have any some
what which whats in on of exist exists
visible visibly noticeable recognizable present shown
pictured depicted displayed seen noticed detected observed
anywhere somewhere clearly actually currently really now possibly maybe perhaps
"""
_SMALL = frozenset(_SMALL_WORDS.split())
_STUTTER = re.compile(
    r"\b(\w+) \1\b|\b(?:an?|the|any|some|this|that|these|those) (?:this|that|these|those)\b"
)
"""Where no small word has a place: "really really", "any that"."""
_OPENERS = frozenset(("is", "are", "do", "does", "has", "have", "any", "what", "which", "whats"))
"""With one of these a question begins, even if it has no question mark."""
_NUMBER = "howmany"
"""Stands where the number is asked for."""

_IMAGE = r"(?:image|picture|photo|photograph|frame|shot|view|scene)\b(?! of\b)"
_SHOWN = rf"(?:the|this|that|a)(?: given| shown)? {_IMAGE}"
_SEE = r"(?:see|spot|find|notice|detect|observe|discern|perceive|make out|recogni[sz]e|identify)"
_SEEN = r"(?:seen|spotted|found|noticed|detected|observed|discerned|made out|recogni[sz]ed)"
_CAN = r"(?:can|could|would|will|may|might)"
_TELL = r"(?:tell|give|name|state|say|identify|mention|report|specify|indicate|determine)"
_CHECK = r"(?:i )?(?:wonder|check|verify|confirm|determine|say|state|see|find out)"
_CONFIRM = r"(?:check|verify|confirm) that"
_WANT = r"(?:i|we) (?:would like|want|need|wish)(?: to (?:know|see|find out))?"
_KNOW = rf"(?:let (?:me|us) know|do you know|tell(?: me| us)?|{_CHECK}|{_WANT})"
_HAS = r"(?:has|have|contain|include|show|feature|display|exhibit|hold)s?"
_LIES = (
    r"(?:sits?|sitting|lies?|lying|stands?|standing|comes?"
    r"|located|placed|positioned|situated|found)"
)
_PART = r"(?:part|object|item|thing|component|element|piece)s?\b"
_A = r"(?:an?|any|one|some)"
_YOU = r"(?:you|i|we|one|anyone|anybody)"
_VERB = r"(?=.*\b(?:is|are|has|have|sits?|lies?|stands?|shows?|contains?|looks?|seems?|appears?)\b)"

# In this order; a phrase that asks becomes the shortest that asks the same.
_REWRITTEN = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        # spelling
        (r"n['’]t\b", " not"),
        (r"\b(i|we|you)['’]d\b", r"\1 would"),
        (r"\b(?!what|that|it|there|here|who|where|how|let)(\w+)['’]s (\w+)", r"\2 of \1"),
        (r"\b(what|there|that)['’]s\b", r"\1 is"),
        (r"[,;] *(?:right|yes|correct|please|ok)\W*$", "?"),
        (r"\bcolour", "color"),
        (r"[?!;]\s*(?=\w)|\.\s+(?=\w)", " and "),  # two sentences ask two things
        (r",", " "),
        (r"\b(?:please|kindly)\b", " "),
        (r"\s+", " "),
        (r"^(is|are) (?:this|that|these|those)(?= (?:an?|the)\b| \w+\W*$)", r"\1 it"),
        (r"^(?:this|that|these|those) (is|are)\b", r"\1 it"),
        # the picture
        (rf"\bdo(?:es)? {_SHOWN} {_HAS}\b", "is"),
        (rf"\b{_SHOWN} (?:shows|contains|has)\b", ""),
        (rf"\b(?:looking at|judging (?:by|from)|according to|based on) {_SHOWN}", ""),
        (rf"\b(?:with)?(?:in|on|from) {_SHOWN}", ""),
        (rf"\b(corner|side|half|part|area) of {_SHOWN}", r"\1"),
        # how many
        (r"\b(?:exactly how many|how many exactly)\b", "how many"),
        (rf"^(how many .*?)\b(?:do|can) {_YOU} count\b", r"\1"),
        (rf"\b{_CAN} you count\b", "count"),
        (r"\b(?:what is |find )?\b(?:the |a )?(?:total )?(?:number|amount|count) of\b", "how many"),
        (r"^count(?: up)?(?: all)?(?: of)?(?: how many)?\b(?! on\b)", "how many"),
        (r"\bhow many(?: of)?\b", f"what {_NUMBER}"),
        (r"\b(?:in total|in all|at all|altogether|overall)\b", ""),
        # whoever asks
        (rf"\b(?:would you say|do you (?:think|believe|say))(?: that)?\b{_VERB}", ""),
        (rf"\b{_CAN} you (?={_TELL}\b|{_KNOW} (?:if|whether|what)\b|{_CONFIRM})", ""),
        (rf"\b{_KNOW} (?:if|whether)\b", "is"),
        (rf"\b{_KNOW}(?= (?:what|which)\b)", ""),
        (rf"\b{_KNOW}(?= the \w+ of\b)", "what"),
        (rf"\b{_CONFIRM}\b", "is"),
        (rf"^{_TELL}(?: me| us)?(?= (?:the|what|which)\b)", "what"),
        (r"^(?:check|inspect|search|look)\b(.*?) for\b(?!.* for\b)", r"is\1"),
        (r"\bis it (?:true|correct|so|the case) that\b", "is"),
        (rf"^(?:is|are|do|does|has|have)\b(?=.*\b{_NUMBER}\b)", "whether"),
        # whoever sees
        (rf"\b(?:do|does|can) {_YOU} (?:clearly |actually |really |happen to )?{_SEE}\b", "do"),
        (rf"\b(?:are you able|is it possible)(?: for you)? to {_SEE}\b", "do"),
        (rf"\b{_YOU} (?:can |could )?{_SEE}\b", ""),
        (rf"\b(can|may) ((?:\w+ ){{1,4}}?)be {_SEEN}\b", r"is \2"),
        (rf"\bcan be {_SEEN}\b|\bto be {_SEEN}\b", "is"),
        (r"\b(?:appear|seem|look)s?\b(?: to (?:be|have)\b)?(?! (?:at|for|like)\b)", ""),
        # what or which it is
        (r"\b(what|which) (?:kind|type|sort) of (?:an? )?", "what "),
        (rf"\b(?:what|which)(?: one)?(?: of)?(?: is| are)?(?: the| these)? {_PART}", "what"),
        (rf"\b(what|which) {_HAS}\b", r"\1 owns"),
        (r"^(the [\w ]+?) (?:is|are|has|have) (?:of )?(what|which) (\w+)\W*$", r"\2 \3 \1?"),
        # what there is, and where
        (r"^(ha(?:s|ve)\b.*?) got\b", r"\1"),
        (rf"\b{_HAS} (?={_A}\b)", "has "),
        (rf"\b((?:what|which)\b.*?) {_HAS}\b(?=\W*$)", r"\1 has"),
        (r"\b(has .*?) (?:on|in) it\b", r"\1"),
        (rf"\b{_LIES} (?=(?:left|right|above|below|in|on|at|to|there|here|somewhere)\b)", ""),
        (r"\b(?:to|on|at) the (left|right)(?=(?:[ -]?hand)?(?: ?side)? of\b)", r"\1"),
        (r"\bthe (left|right)(?= (?:side )?of\b)", r"the \1most"),
        (r"\b(left|right)(?: |-)?(?:hand )?side\b", r"\1"),
        (rf"\b(?:at least {_A}|{_A} of the)\b|\b(?:{_A} )?(?:signs?|traces?|evidence) of\b", "any"),
        (r"\b(one|any) (.*) at least\b", r"any \2"),
        (r"\b(?:any|some)thing like an?\b", "any"),
        (r"\bgone missing\b", "missing"),
        (
            rf"\b(?:is|are) (?:there )?{_A} (?:missing (\w+)|(\w+) missing)"
            r" (?:from|on|in) (?:the|this|that) (\w+)",
            r"has the \3 missing \1\2",
        ),
        (r"\b(in|on|of|from)(?=\W*$)", r"\1ward"),  # "Is the screw on?": no place follows
    )
)


@lru_cache(maxsize=4096)
def skeleton(question: str) -> tuple[str, ...]:
    """Return the form of a question and the words that it is about, in their order.

    >>> skeleton("Can you see a dent on the housing?")
    ('#is', 'dent', 'housing')
    >>> skeleton("What's the number of screws?") == skeleton("How many screws are there?")
    True
    >>> skeleton("Isn't the label tilted?")
    ('#is', 'not', 'label', 'tilt')
    >>> skeleton("Should there be a dent?")
    ('#bare', 'should', 'be', 'dent')
    """
    text = normalize("NFKC", question).casefold()
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text).lstrip()
    words = normalise(text).split()
    about = [_stem(word) for word in words if word not in _SMALL and word != _NUMBER]
    if _oddly_written(question):
        about = [word.upper() for word in about]
    return (_form(words, text), *about)


def _form(words: list[str], text: str) -> str:
    if _NUMBER in words:
        return COUNT
    if "?" not in text and not _OPENERS & set(words[:1]):
        return SAID
    if (
        words
        and words[0] not in _SMALL
        and _OPENERS.isdisjoint(words)
        and not _SMALL.issuperset(words[1:])
    ):
        return BARE
    return WHICH if {"what", "which", "whats"} & set(words) else IS


def _oddly_written(question: str) -> bool:
    """Return whether a model reads other tokens than those of the words as people type them.

    Capitals for the most part, full-width and mathematical letters, signs that nobody sees or that
    are pictures, more blanks and signs than letters, and a word said twice.
    """
    letters = sum(map(str.isalnum, question))
    return (
        sum(map(str.isupper, question)) > sum(map(str.islower, question))
        or 2 * letters < len(question)
        or any(_odd(sign) for sign in question)
        or _STUTTER.search(normalise(question)) is not None
    )


def _odd(sign: str) -> bool:
    if sign.isalpha():
        return normalize("NFKC", sign) != sign
    return category(sign) in ("Cc", "Cf", "Cn", "Co", "So") and sign not in "\t\r\n"


def _stem(word: str) -> str:
    """Strip a word's English ending, so that scratches and scratched are scratch.

    Not without -ing: a housing is nothing that is housed.
    """
    for ending in ("ed", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and not word.endswith("ss"):
            return re.sub(r"(s|x|z|ch|sh)e$", r"\1", stem) if ending == "s" else stem
    return word
