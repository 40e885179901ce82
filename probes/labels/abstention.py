"""Answers that give none: "I have no idea", "Das lässt sich nicht sagen", 不知道."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from probes.labels.text import normalise

_GAP = "..."
"""Stands for up to six words."""


def _pattern(unable: str, verbs: str, phrases: str, whole: str) -> str:
    """A language's abstentions, in `normalise`'s form without accents.

    Args:
        unable, verbs: one of the former, perhaps a word, and one of the latter.
        phrases: anywhere in the answer.
        whole: the answer itself, for these words are answers elsewhere.
    """
    first, second, anywhere, alone = (
        re.sub(r"\n\s*", " ", part).replace("| ", "|").replace(f" {_GAP} ", r" (?:\w+ ){0,6}?")
        for part in (unable, verbs, phrases, whole)
    )
    return rf"\b(?:{first}) (?:\w+ )?(?:{second})\b|\b(?:{anywhere})\b|^(?:{alone})$"


_ENGLISH = _pattern(
    unable="""cannot|can not|cant|could not|couldnt|unable to|not able to|not possible to|
        impossible to|hard to|difficult to""",
    verbs="""tell|say|determine|answer|know|judge|assess|identify|confirm|verify|provide|help|
        assist|make out|determined|sure|certain|identified|answered|confirmed|
        (?:see|view|access|open|process|analy[sz]e)(?:\\s(?:the|this|that|an|any|your))?
        (?:images?|pictures?|photos?|photographs?|attachments?)""",
    phrases="""(?:do not|dont|did not|didnt|would not|wouldnt) (?:\\w+ )?know|
        (?:have|has|having|ive got|got) no (?:\\w+ )?(?:idea|clue|way of knowing|way to know)|
        no way (?:of knowing|to tell|to know)|(?:am|im|is|are) not (?:\\w+ )?(?:sure|certain)|
        unsure|uncertain|(?:it|that|this|answer) (?:is|remains) (?:not clear|unclear)|
        (?:no|without|without an|without any|any)
        (?:image|picture|photo|photograph|attachment)s?(?:\\s(?:was|is|were|are|has been))?
        (?:provided|attached|given|available|uploaded|included|shared|supplied)|
        (?:image|picture|photo|photograph|attachment)s? (?:was|is|were|are|has been) not
        (?:provided|attached|given|available|uploaded|included|shared|supplied)|
        (?:not enough|insufficient) (?:information|info|details?|context|data)|
        (?:information|answer) is not (?:available|given|provided|known)|as an ai""",
    whole="""no idea|no clue|idk|dunno|beats me|not sure|not certain|not clear|unclear|unknown|
        undetermined|indeterminate|unanswerable|n a|n/a|na|not applicable|not available|no answer|
        no comment|depends|it depends|no image|no picture|no photo""",
)
_GERMAN = _pattern(
    unable="(?:kann|konnen|konnte|lasst sich|lasst es sich) ... nicht",
    verbs="""sagen|erkennen|beurteilen|bestimmen|feststellen|beantworten|entscheiden|
        das bild sehen""",
    phrases="""weiss (?:ich )?(?:es |das )?(?:leider )?nicht|keine ahnung|nicht zu erkennen|
        nicht erkennbar|nicht bestimmbar|nicht feststellbar|bin (?:mir )?(?:da )?nicht sicher|
        kein bild (?:\\w+ )?(?:vorhanden|bereitgestellt|angehangt|verfugbar)""",
    whole="unklar|unbekannt|ungewiss|nicht sicher|kein bild",
)
_FRENCH = _pattern(
    unable="""(?:peux|peut|puis|pouvons|parviens a|arrive a|suis) pas (?:en mesure de )?|
        impossible de|impossible a|difficile a|difficile de""",
    verbs="""dire|determiner|repondre|savoir|identifier|distinguer|juger|sure?|certaine?|
        voir l ?image""",
    phrases="ne sais pas|aucune idee|pas la moindre idee|aucune image|pas d ?image|pas de reponse",
    whole="sais pas|inconnue?|indetermine|pas sure?|pas certaine?",
)
_SPANISH = _pattern(
    unable="""no (?:lo )?(?:puedo|podria|podemos|se puede|puede|es posible|logro)|imposible|
        imposible de""",
    verbs="""decir(?:lo)?|determinar(?:lo|se)?|responder|saber(?:lo)?|distinguir|asegurar|
        identificar|ver la imagen""",
    phrases="""no lo se|ni idea|no tengo (?:ni |la menor |ninguna )?idea|
        no (?:estoy|esta) (?:segur[oa]|claro)|no se (?:si|que|cual|cuant[oa]s?|donde)""",
    whole="no se|yo no se|desconocid[oa]|no hay (?:ninguna )?(?:imagen|foto)",
)
_ITALIAN = _pattern(
    unable="""non (?:lo )?(?:posso|riesco a|si puo|e possibile|sono in grado di)|impossibile|
        impossibile da""",
    verbs="""dir(?:e|lo)|determinar(?:e|lo)|rispondere|stabilir(?:e|lo)|capire|identificare|
        vedere l ?immagine""",
    phrases="""non (?:lo )?so|non saprei|nessuna idea|non (?:ne )?ho (?:la minima )?idea|
        non sono (?:\\w+ )?sicur[oa]|nessuna immagine""",
    whole="sconosciut[oa]|ignot[oa]",
)
_PORTUGUESE = _pattern(
    unable="nao (?:posso|consigo|e possivel|da para|se pode|podemos)|impossivel",
    verbs="dizer|determinar|responder|saber|identificar|afirmar|distinguir|ver a imagem",
    phrases="""nao sei|nao faco ideia|nao tenho (?:a menor |a minima |nenhuma )?(?:ideia|certeza)|
        nao estou (?:segur[oa]|cert[oa])|nenhuma imagem""",
    whole="sem ideia|desconhecid[oa]|indeterminad[oa]",
)
_DUTCH = _pattern(
    unable="kan ... niet|niet te|onmogelijk te",
    verbs="zeggen|bepalen|beoordelen|vaststellen|beantwoorden|opmaken|de afbeelding zien",
    phrases="""weet (?:ik )?(?:het |dat )?(?:echt )?niet|geen idee|
        geen (?:afbeelding|foto) (?:\\w+ )?(?:beschikbaar|gegeven|verstrekt|bijgevoegd)""",
    whole="onbekend|onduidelijk|niet zeker|geen afbeelding",
)
_POLISH = _pattern(
    unable="nie (?:moge|potrafie|jestem w stanie|mozna|da sie|umiem)",
    verbs="powiedziec|okreslic|stwierdzic|odpowiedziec|ocenic|ustalic|rozpoznac|zobaczyc obrazu",
    phrases="""nie wiem|nie mam (?:zielonego )?pojecia|nie jestem (?:\\w+ )?pew(?:ien|na)|
        trudno powiedziec|brak (?:obrazu|obrazka|zdjecia|odpowiedzi|informacji|danych)""",
    whole="nieznan[yae]",
)
# No blanks between words: anywhere in the answer.
_CHINESE = (
    "不知道|不清楚|不[确確]定|不能[确確]定|看不清|不好[说說]|[没沒]有(?:提供)?(?:[图圖][片像]|照片)|"
    "(?:[无無]法|不能|[难難]以)(?:判[断斷]|[确確][定认認]|回答|看到|看清|[识識][别別]|得知|辨[认認]|分辨)|"
    "^(?:未知|不明)$"
)
_JAPANESE = (
    "[わ分]かり(?:ません|かねます)|[わ分]からない|知りません|答えられません|何とも言えません|不明です|"
    "(?:判断|特定|確認)(?:は)?(?:でき|出来)(?:ません|ない)|"
    "画像が(?:ありません|提供されていません|見えません|ない)"
)
_LANGUAGES = (_ENGLISH, _GERMAN, _FRENCH, _SPANISH, _ITALIAN, _PORTUGUESE, _DUTCH, _POLISH)
_PATTERNS = [re.compile(one) for one in (*_LANGUAGES, _CHINESE, _JAPANESE)]
_LATIN_MARKS = re.compile("[\u0300-\u036f]")


@lru_cache(maxsize=4096)
def abstains(text: str) -> bool:
    """Whether a text says that it gives no answer.

    In English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Chinese and Japanese.

    >>> abstains("Cannot tell. No image was provided."), abstains("There is no picture on the wall")
    (True, False)
    """
    apart = unicodedata.normalize("NFD", normalise(text))
    plain = unicodedata.normalize("NFC", _LATIN_MARKS.sub("", apart))
    return any(pattern.search(plain) is not None for pattern in _PATTERNS)
