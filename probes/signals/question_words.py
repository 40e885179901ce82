"""A question without the words that only ask: what is left is what it is about.

"Can you see a dent on the housing?" and "Is there a dent on the housing?" are about the same thing;
"Is there a triangle?" is not. The lists are English. In another language every word counts, so that
a paraphrase lies further from the training questions than it would in English.
"""

from __future__ import annotations

import re
from unicodedata import normalize

from probes.labels.text import normalise

IS, WHICH, COUNT, SAID = "#is", "#which", "#count", "#said"
"""Forms: whether something is so, what or which it is, how many there are; nothing is asked."""

# Words that ask, point at the picture or hold the sentence together. Not among them, because they
# change what is asked: negations, and, or, all, only, who, where, when, why, comparisons, numbers.
_ASKING_WORDS = """
a an the this that these those there theres here it its
is are was were be been being am do does did has have had having exist exists
contain contains containing include includes show shows showing shown feature features
can could would will should may might must please kindly able possible
i you we me us my your our one anyone
see sees seeing seen saw look looks looking spot spotted find finds found notice noticed
detect detected observe observed view visible discern recognise recognize make out
present appear appears appearing located placed positioned situated
lie lies lying sit sits sitting stand stands standing come comes get gets got hold holds
tell say says know knows check checks determine confirm give gives state name identify mention
want like need wonder wondering let think believe possibly maybe perhaps
what which whats if whether so such in on at of to for with as
any some anything something anywhere somewhere somehow least
image images picture pictures photo photos photograph scene shot
thing things object objects item items part parts component components element elements piece
just directly clearly actually currently exactly really now total overall altogether
kind type sort
"""
_ASKING = frozenset(_ASKING_WORDS.split())
_ASKS_WHICH = frozenset(
    ("what", "which", "whats", "tell", "give", "gives", "state", "name", "identify", "know")
)
_POINTS = frozenset(
    (
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "in",
        "on",
        "at",
        "of",
        "to",
        "for",
        "with",
    )
)
"""Of these, those that a bare "The plate." has too."""
_ASKS_WHETHER = frozenset(("if", "whether"))
_HOW_MANY = (
    r"\bhow many\b|(?:\bwhat(?:['’]s| is) )?\b(?:the )?(?:total )?(?:number|amount|count) of\b"
    r"|\bcount(?: up)?(?: all)?\b"
)
_REWRITTEN = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"n['’]t\b", " not"),
        (r"\b(i|we|you)['’]d\b", r"\1 would"),
        (r"\b(?!what|that|it|there|here|who|where|how|let)(\w+)['’]s (\w+)", r"\2 of \1"),
        (r"[,;] *(?:right|yes|correct|please|ok)\W*$", ""),
        (r"\bcolour", "color"),
        (r"\b(left|right)(?: |-)?(?:hand )?side\b", r"\1"),
        (_HOW_MANY, f" {COUNT[1:]} "),
    )
)


def skeleton(question: str) -> tuple[str, ...]:
    """The form of a question and the words that it is about, in their order.

    >>> skeleton("Can you see a dent on the housing?")
    ('#is', 'dent', 'hous')
    >>> skeleton("What's the number of screws?") == skeleton("How many screws are there?")
    True
    >>> skeleton("Isn't the label tilted?")
    ('#is', 'not', 'label', 'tilt')
    """
    text = question.casefold()
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    words = normalise(text).split()
    if question.isupper():  # a model reads other tokens than those of the same words in small type
        words = [word.upper() for word in words]
    form = IS
    if COUNT[1:] in words:
        form = COUNT
    elif _ASKS_WHICH & set(words) and not _ASKS_WHETHER & set(words):
        form = WHICH
    elif "?" not in normalize("NFKC", question) and not (_ASKING - _POINTS) & set(words):
        form = SAID
    about = (_stem(word) for word in words if word not in _ASKING and word != COUNT[1:])
    return (form, *about)


def _stem(word: str) -> str:
    """A word without its English ending, so that scratches and scratched are scratch."""
    for ending in ("ing", "ed", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and not word.endswith("ss"):
            return re.sub(r"(s|x|z|ch|sh)e$", r"\1", stem) if ending == "s" else stem
    return word
