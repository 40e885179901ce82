"""The normalisation of VQA's published evaluation (Antol et al. 2015, Goyal et al. 2017).

After ``vqaEval.py`` of github.com/GT-Vision-Lab/VQA, its oddities included: punctuation becomes a
blank or nothing by what stands beside it anywhere in the text; a comma between digits anywhere
makes all punctuation vanish; at most 32 full stops go. One thing is other here: a text of articles
alone ("A") keeps them, so that it is not empty.
"""

from __future__ import annotations

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_STOPS = 32
_BETWEEN_DIGITS = re.compile(r"\d,\d")
_COUNTED = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(value) for value, word in enumerate(_COUNTED.split())} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
# Words whose spelling with one apostrophe left out counts as the word itself.
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't "
    "mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't "
    "she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd "
    "someone'd've someone'll someone's something'd something'd've something'll that's there'd "
    "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've "
    "we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've "
    "who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll "
    "y'all'd've you'd you'd've you'll you're you've"
)


def _shortened(word: str) -> set[str]:
    """The word with one apostrophe left out, for each of them."""
    return {word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"}


_SPELLINGS = {short: word for word in _CONTRACTIONS.split() for short in _shortened(word)} | {
    "somebody'd": "somebodyd"
}


def vqa_form(text: str) -> str:
    """Return the form in which VQA's evaluation compares answers.

    >>> vqa_form("None"), vqa_form("1,000"), vqa_form("The dont-walk sign.")
    ('0', '1000', "don't walk sign")
    """
    words = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip()).lower().split()
    digits = [_NUMBERS.get(word, word) for word in words]
    kept = [word for word in digits if word not in _ARTICLES] or digits
    return " ".join(_SPELLINGS.get(word, word) for word in kept)


def _without_punctuation(text: str) -> str:
    out = text
    for mark in _PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if beside or _BETWEEN_DIGITS.search(text) else " ")
    return _FULL_STOP.sub("", out, count=_MOST_STOPS)
