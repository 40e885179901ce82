"""Words that leave an answer open or deny it, wherever a rule looks for one within a text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from probes.labels.text import normalise

_LATIN_MARKS = re.compile("[\u0300-\u036f]")
_SENTENCES = re.compile(r"(?<=[!?？\n])|(?<=\.)(?!\d)")


def alternatives(table: str) -> str:
    """Join a pattern's alternatives, written over several lines."""
    return re.sub(r"\n\s*", " ", table.strip()).replace("| ", "|")


def words_of(table: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(table.split())


_BOTH_OR_NONE = alternatives(
    """(?:yes|ja|oui|si|sim|da|tak) (?:and|und|et|y|e|en|i) (?:no|nein|non|nao|nee|nie)|
    (?:neither|weder|ni|ne|nem|noch) (?:yes|ja|oui|si|sim) (?:nor|noch|ni|ne|nem) (?:no|nein|non|
    nao)"""
)
_GUESSES = alternatives(
    r"""maybe|perhaps|possibly|potentially|conceivably|presumably|supposedly|allegedly|arguably|
    might|may (?:well )?(?:be|have|not)|could (?:well )?(?:be|have)|guess(?:ing|es)?|who knows|
    unsure|uncertain|unclear|undecided|inconclusive|doubtful|debatable|questionable|ambiguous|
    not (?:\S+ ){0,3}?(?:sure|certain|confident|convinced)|50[ /]50|fifty fifty|either way|idk|
    dunno|not? (?:a )?clue|no idea|beats me|
    (?:a|some|the|good|slight|small) (?:chance|possibility|likelihood|probability|uncertainty)|
    vielleicht|moglicherweise|eventuell|womoglich|(?:kann|konnte)(?:\s\w+)? sein|jein|unsicher|
    peut etre|possiblement|eventuellement|pas (?:tres )?sure?|
    quizas?|tal vez|puede (?:que|ser)|podria ser|a lo mejor|posiblemente|
    forse|puo darsi|potrebbe|magari|possibilmente|
    talvez|pode ser|possivelmente|quica|misschien|mogelijk|wellicht|byc moze|moze|mozliwe"""
)
_HEDGES = re.compile(
    rf"\b(?:{_GUESSES}|{_BOTH_OR_NONE})\b|"
    "[也或][许許]|(?<!不)可能|说不定|說不定|かもしれ|もしかし|ひょっとし"
)
_NEGATIONS = words_of(
    """no not none nor neither never nothing nobody nowhere cannot cant wont dont doesnt didnt isnt
    arent wasnt werent hasnt havent hadnt wouldnt couldnt shouldnt aint without except excluding
    nicht kein keine keinen keiner keines weder pas aucun aucune ni ningun ninguno ninguna non
    nessun nessuno nessuna nao nenhum nenhuma niet geen nie zaden"""
)
"""In English, and what makes a plain answer of other languages doubtful."""


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Normalise a text and remove the accents of Latin letters.

    >>> plain("Não é visível, weiß?")
    'nao e visivel weiss'
    """
    return without_accents(normalise(text))


def without_accents(text: str) -> str:
    """Remove the accents of Latin letters."""
    return unicodedata.normalize("NFC", _LATIN_MARKS.sub("", unicodedata.normalize("NFD", text)))


def hedges(text: str) -> bool:
    """Return whether a text hedges: "maybe", "it could be", "yes and no".

    "Probably", "I think" and "it seems" are answers.

    >>> hedges("Possibly not."), hedges("vielleicht 3"), hedges("Probably not.")
    (True, True, False)
    """
    return _HEDGES.search(plain(text)) is not None


def denies(form: str) -> bool:
    """Return whether a word of a text negates something, in any of the languages read here."""
    return not _NEGATIONS.isdisjoint(without_accents(form).split())


def without_questions(text: str) -> str:
    """Remove the questions of a text: a question that comes back, or "Yes?", is no answer.

    >>> without_questions("Is it 3? No, 4.")
    ' No, 4.'
    """
    return "".join(part for part in _SENTENCES.split(text) if not part.endswith(("?", "？")))
