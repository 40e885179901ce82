"""Reservations that void a yes or a no: conditions, refusals, talk of the picture or of oneself."""

from __future__ import annotations

import re

from probes.labels.doubt import alternatives, hedges, plain

_PERCEIVED = "see|seen|seeing|find|found|spot|spotted|detect|detected|notice|observe|perceive"
_PERCEIVES = rf"(?:\w+ly |even |actually )?(?:{_PERCEIVED})"
_PICTURE = "(?:image|picture|photo|photograph|attachment|file)s?"
# "No picture on the wall" is a no; "no picture here" is none.
_GIVEN = alternatives(
    rf"""{_PICTURE}(?! (?:on|of|above|under|beside|behind|near|next|hanging|showing|printed|over|
    inside)\b)"""
)
_PHRASES = re.compile(
    r"^no (?:thanks|thank you|problem|worries|kidding|wonder|matter|question)\b|"
    r"^no (?:fewer|less|sooner|end|shortage|lack|sweat|objections?|exceptions?|more than|mans)\b|"
    r"^no (?:parking|smoking|entry|stopping|waiting|trespassing|littering|admittance)$|"
    r"^no (?:offen[sc]e|can do|joke|luck|use|surprise|harm|(?:big )?deal|rush|pressure|go)\b"
)
_CONDITION = alternatives(
    r"""if|unless|whether|otherwise|depend\w*|assuming|supposing|supposed to|except|let me|happy to|
    glad to|wait for|please|i can help|i (?:\w+ )?(?:lack|need|require)|hardly|barely|scarcely|
    (?:hard|difficult|tough|tricky|impossible) to|never mind|none of the above|
    without (?:the|more|seeing|your)|declin\w+|refus\w+|confidence|probability|likelihood|
    i take (?:that|it) back|that (?:is|was) (?:wrong|incorrect|false|not (?:right|true|correct))|
    (?:nothing|none)(?: (?:was|is|were))? (?:available|given|provided|attached|uploaded|shared)|
    used to|almost|nearly|once|wish|just kidding|kidding|joking|ignore|toss|trust|hm+|erm?|uh|um|
    no ?(?:one|body) but|no such question|(?:yes no|yesno|no yes) question|question i|
    (?:a|the|this|that|your) question|business|none but|nothing but|
    no (?:end|shortage|lack) of|not only|
    never sure|not (?:gonna|going to)|blank (?:image|picture)|(?:image|picture|photo) is blank"""
)
_UNKNOWN = alternatives(
    rf"""no longer|no ?(?:one|body) (?:knows|can|could)|no way (?:to|of|for|that)|unknown|
    nothing (?:i|we|you) can|nothing (?:can|could) be|nothing to (?:see|say|go on)|can neither|
    nothing (?:is|was) (?:known|visible|clear|given)|insufficient|inadequate|undetermined|
    no (?:\w+ )?(?:information|info|data|details?|context|answer|response|comment|opinion|idea|clue|
    access|certainty|guarantee|preference|means|basis|conclusion|visibility|view)|
    (?:no|(?:{_PERCEIVED}|have|access|open|view|get|receive|load|not) (?:an?|any|the|your))
    (?:\w+ )?{_GIVEN}"""
)
_PICTURED = alternatives(
    rf"""(?:image|picture|photo|photograph|question|information|context|resolution|quality|view|
    angle|lighting)s? (?:\w+ )?(?:is|are|was|were|has|have|can|could|cannot) (?:\w+ )?(?:not|too|
    un\w+|blur\w+)|{_PICTURE} does not (?:show|contain|have|make|load) (?:me|us|enough|whether|it|
    that|this|clear\w*|sufficient)|
    {_PICTURE} (?:does|did|would|could|will) not (?:be |get )?(?:load\w*|
    open\w*|display\w*|appear|show up|upload\w*|come through|work|process\w*)|
    does not (?:allow|let|permit|help|provide|reveal|give)|blurry|illegible|unreadable|indistinct|
    too (?:\w+ )?(?:dark|blurry|blurred|small|far|low|bright|dim|unclear|little|grainy|fuzzy)|
    glare|(?:lens|camera) |indistinguishable|
    not (?:\w+ )?(?:visible|discernible|legible|readable|recogni[sz]able|
    identifiable|distinguishable|determinable|determined|clear|clearly|obvious|apparent|evident|
    known|possible|enough|sufficient|applicable|available|answerable|specified|stated|given|
    provided|mentioned|shown|in (?:view|frame|sight)|necessarily|always|entirely|fully|completely|
    totally|exactly|quite|yet|really|sure|certain|positive|able|allowed|qualified|permitted|
    conclusive)"""
)
# What the speaker does not do, but for seeing a thing and for thinking so.
_SPEAKER = alternatives(
    rf"""(?:i|we|you) (?:\w+ )?(?:do|did|can|could|will|would|wo|am|are|was|have|had|should|may|
    must) not(?! (?:{_PERCEIVES}|(?:\w+ly )?(?:think|believe))\b)|
    not (?:\w+ )?(?:think|believe|see|find) (?:that )?(?:i|we)|
    (?:cannot|can not|could not|able to)(?! {_PERCEIVES}\b)|
    (?:cannot|not) {_PERCEIVES}(?:$|\s(?:it|that|this|them|well|clearly|properly|anything|enough|
    much|because|due|what|how|why|where|details?|from|in|at|here|there|so|yet|either|but|and)\b)"""
)
_RESERVATIONS = re.compile(rf"\b(?:{_CONDITION}|{_UNKNOWN}|{_PICTURED}|{_SPEAKER})\b")


def reserves(text: str) -> bool:
    """Return whether an answer to a yes/no question has a reservation, or is about something else.

    Stricter than an abstention, because only answers to such questions are tested: "not visible"
    may answer another one.

    Args:
        text: with "not" written out, for "n't".

    >>> reserves("i am not able to look"), reserves("no if it is bent"), reserves("it is not bent")
    (True, True, False)
    """
    said = plain(text)
    return bool(hedges(text) or _PHRASES.search(said) or _RESERVATIONS.search(said))
