"""An answer's words, in the forms in which answers are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from probes.labels.numerals import as_digits

# The names of reasoning marks: of DeepSeek, Qwen and Kimi (think), Mistral ([THINK]), Seed
# (seed:think), Cohere (START_THINKING), OpenThoughts (begin_of_thought), LLaVA-CoT (REASONING,
# SUMMARY, CAPTION) and of common prompts. Each stands in <>, <||>, [] or ◁▷.
_REASONS = (
    r"(?:\w+[:_])?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad|analysis|"
    r"rationale|cot|chain_of_thoughts?|monologue|deliberation|plan(?:ning)?|summary|caption)"
    r"(?:_process)?"
)
_SAYS = (
    r"(?:answer|final|final_answer|solution|response|conclusion|output|begin_of_solution|"
    r"start_response|begin_of_box)"
)
_MARK = r"(?:<\|?|◁|\[){0}(?:\s[^<>\[\]]*)?(?:\|?>|▷|\])"
_OPEN = _MARK.format(rf"(?!/|end_)(?:begin_of_|start_of_|start_)?{_REASONS}")
_CLOSE = _MARK.format(rf"(?:/|end_of_|end_){_REASONS}")
_EITHER_MARK = re.compile(rf"(?P<open>{_OPEN})|(?P<close>{_CLOSE})", re.IGNORECASE)
# gpt-oss: channels, of which the last one named final is the answer; and with its marks dropped.
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>(.*?)(?=<\|\w+\|>|\Z)", re.DOTALL)
_BARE_CHANNEL = re.compile(r"\A\s*analysis(?:.*?assistantfinal|(?=[A-Z]).*\Z)", re.DOTALL)
_TAGGED = re.compile(
    _MARK.format(_SAYS)
    + r"(.*?)(?:"
    + _MARK.format(r"(?:/\w+|end_of_\w+|end_\w+)")
    + r"(.*?))?(?=\Z|"
    + _MARK.format(_SAYS)
    + ")",
    re.DOTALL | re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}{1,2}")
_LEAD = re.compile(
    r"\A\W*(?:the\s+|my\s+)?(?:final\s+|correct\s+|right\s+)?answer\s*(?:\*\*)?(?:is\b\s*:?|:)\s*",
    re.IGNORECASE,
)

_HEADINGS = re.compile(r"^\s*#+\s+", re.MULTILINE)
# ".5" is 0.5, but "No.5" and "...5" hold no such point.
_BARE_POINT = re.compile(r"(?<![\w.,])[.,](?=\d)")
# Feet and inches, where no quotation was opened; 1'234 is a number.
_OPENED = re.compile(r"(?<!\w)[\"'“‘”’]")
_FEET = re.compile(r"(?<=\d)['’′](?!\d{3}(?!\d))(?![^\W\d])")
_INCHES = re.compile(r"(?<=\d)(?:''|’’|[\"”])(?!\w)")
# x² is x^2, and no x2.
_POWERS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_POWER = re.compile(rf"(?<=[\w)])(⁻?)([{_POWERS}]+)")
_MINUS = re.compile(r"[−–‐‑](?=\d)")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_GRADE = re.compile(r"(?<!\w)([^\W_])[-−](?!\w)")
_APOSTROPHES = re.compile(r"(?<=\w)['’](?=\w)")
# Symbols that tell answers apart are words of their own: C#, A+, 5 %, $5, < 3, ≥ 3, exit →.
_SYMBOL = "′″#%‰@+~$¢₠-⃀€£¥°<>=±×÷¬←-⇿∀-⋿⟰-⟿⬅-⬍✖✗✘❌❎"
_SYMBOLS = re.compile(f"[{_SYMBOL}]")
# Punctuation goes, but not where it is part of a number: 3.5, 12:30, -2, 10^3.
_PUNCTUATION = re.compile(
    rf"(?<=\d)[.,:/](?=\d)|(?<![^\s])-(?=\d)|(?<=\w)\^-?(?=\d)|[{_SYMBOL}]|([^\w\s]|_)",
)
# 3½ is not 31/2.
_RAISED = re.compile("(?<=[0-9])(?=[₀-₉¼-¾⅐-⅞①-⑳])")
_ARTICLES = frozenset(("a", "an", "the"))


def spoken(answer: str) -> str:
    """Return what an answer says at its end, without reasoning or a leading "Answer:".

    Reasoning stands between marks (``<think>...</think>`` and the like, see :data:`_REASONS`). One
    that is never closed leaves no answer: the model had not come to its end. What stands before a
    mark that was never opened is reasoning.

    >>> spoken("<think>no or yes?</think>Final answer: Yes.")
    'Yes.'
    >>> spoken("Yes <think>or no</think>"), spoken("<think>It could be no")
    ('Yes', '')
    """
    said = _without_reasoning(_final_channel(answer))
    if tagged := [
        match.group(1) + " " + (match.group(2) or "") for match in _TAGGED.finditer(said)
    ]:
        said = tagged[-1]
    return _LEAD.sub("", _BOXED.sub(r"\1", said)).strip()


def _final_channel(answer: str) -> str:
    channels = _CHANNEL.findall(answer)
    if not channels and "<|channel|>" not in answer:
        return _BARE_CHANNEL.sub("", answer)
    return "".join([text for name, text in channels if name == "final"][-1:])


def _without_reasoning(text: str) -> str:
    kept, depth, at = "", 0, 0
    for mark in _EITHER_MARK.finditer(text):
        if depth == 0:
            kept += text[at : mark.start()]
        if mark.group("open"):
            depth += 1
        elif depth == 0:
            kept = ""
        else:
            depth = 0
        at = mark.end()
    return "" if depth else kept + text[at:]


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Normalise a text: lower case, no punctuation, single blanks, no thousands separators.

    >>> normalise(" Yes, there IS. ")
    'yes there is'
    >>> normalise("It's 1,000.5 mm of C#"), normalise(".5 mm²")
    ('its 1000.5 mm of c #', '0.5 mm^2')
    """
    return " ".join(_words(text)).casefold()


@lru_cache(maxsize=4096)
def match_form(text: str) -> str:
    """Normalise a text, with numbers as digits and without articles.

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
    text = _RAISED.sub(" ", _POWER.sub(_power, text))
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/").replace("′′", "″")
    text = _BARE_POINT.sub("0.", _feet_and_inches(text))
    text = _MINUS.sub("-", _HEADINGS.sub("", text)).replace("&", " and ")
    text = _GROUPED.sub(lambda match: match.group(0).replace(",", ""), text)
    text = _GRADE.sub(r"\1− ", _APOSTROPHES.sub("", text))
    text = _PUNCTUATION.sub(lambda match: " " if match.group(1) else match.group(0), text)
    return _SYMBOLS.sub(r" \g<0> ", text).split()


def _power(match: re.Match[str]) -> str:
    digits = "".join(str(_POWERS.index(one)) for one in match.group(2))
    return f"^{'-' if match.group(1) else ''}{digits}"


def _feet_and_inches(text: str) -> str:
    return text if _OPENED.search(text) else _FEET.sub("′", _INCHES.sub("″", text))


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
