"""Answers that give none: "I have no idea", "Das lässt sich nicht sagen", 不知道."""

from __future__ import annotations

import re
import unicodedata

from probes.labels.text import normalise

# Patterns stand in `normalise`'s form without accents. A pattern that ends with "$" and begins with
# "^" must be the whole answer, for its words are answers too: "unknown" on a label.
_ENGLISH = r"""
(?:do not|dont|did not|didnt|would not|wouldnt) (?:really |honestly |actually )?know
(?:have|has|having|got|ve) no (?:\w+ )?(?:idea|clue)|^no (?:idea|clue)$|^(?:idk|dunno)$|^beats me$
have no way (?:of knowing|to (?:tell|know))|^no way (?:of knowing|to (?:tell|know))
(?:can not|cannot|cant|could not|couldnt|unable to|not able to|not possible to|impossible to|hard to|difficult to) (?:\w+ly )?(?:tell|say|determine|answer|know|judge|assess|identify|confirm|verify|be (?:determined|sure|certain|identified|answered|confirmed)|provide|help|assist|make out|(?:see|view|access|open|process|analy[sz]e) (?:the|this|that|an|any|your|images?|pictures?|photos?)(?: (?:image|picture|photo|photograph|attachment))?$)
(?:can not|cannot|cant|could not|couldnt|unable to|not able to) (?:see|view|access|open|process|analy[sz]e) (?:the|this|that|an|any|your )?\s?(?:image|picture|photo|photograph|attachment)s?\b
(?:am|is|are|im|^) ?not (?:\w+ly )?(?:sure|certain)|\bunsure\b|\buncertain\b|^not (?:sure|certain)
(?:it|that|this|answer) (?:is|was|remains) (?:not clear|unclear)|^(?:not clear|unclear)\b
(?:no|without an?|any) (?:image|picture|photo|photograph|attachment)s? (?:was |is |were |are |has been |have been )?(?:provided|attached|given|available|uploaded|included|shared|supplied)
(?:image|picture|photo|photograph|attachment)s? (?:was|is|were|are|has been) not (?:provided|attached|given|available|uploaded|included|shared|supplied)|^no (?:image|picture|photo)$
not enough (?:information|info|detail|details|context|data)|insufficient (?:information|info|detail|details|context|data)
(?:information|answer) (?:is |was )?(?:not |un)(?:available|given|provided|known)|\bas an ai\b
^(?:unknown|undetermined|undeterminable|indeterminate|unanswerable|n a|n/a|na|not applicable|not available|no answer|no comment|(?:it )?depends)$
"""
_OTHERS = r"""
weiss (?:ich )?(?:es |das |davon )?(?:leider )?nicht|keine ahnung|^(?:unklar|unbekannt|ungewiss)$
(?:kann|konnen|konnte|lasst sich|laesst sich) (?:\w+ ){0,6}?nicht (?:\w+ ){0,2}?(?:sagen|erkennen|beurteilen|bestimmen|feststellen|beantworten|entscheiden|sehen)\b
nicht (?:zu erkennen|erkennbar|bestimmbar|zu sagen|feststellbar|eindeutig)|bin (?:mir )?(?:da )?nicht sicher|kein bild (?:\w+ )?(?:vorhanden|bereitgestellt|angehangt|gegeben|verfugbar)
\bne sais pas\b|\bsais pas$|aucune idee|pas la moindre idee|pas (?:\w+ )?(?:sur|sure|certain|certaine)$|^(?:inconnue?|indetermine)$
(?:peux|peut|puis|pouvons|parviens|arrive|suis) pas (?:a |en mesure de )?(?:vous |le |l )?(?:dire|determiner|repondre|voir (?:l |d )?image|savoir|identifier|distinguer|juger)
impossible (?:de |a |d )?(?:le )?(?:dire|determiner|repondre|savoir|identifier)|difficile a dire|aucune image|pas d ?image|pas de reponse
\bno (?:lo |lo )?se$|^(?:yo )?no (?:lo )?se\b(?! (?:ve|puede ver|observa|aprecia|trata))|\bno lo se\b|ni idea|no tengo (?:ni |la menor |ninguna )?idea|^desconocid[oa]$|no est(?:oy|a) (?:segur[oa]|claro)
no (?:lo )?(?:puedo|podria|podemos|se puede|puede|es posible|sabria|logro) (?:\w+ )?(?:decir|decirlo|determinar|determinarlo|responder|saber|saberlo|distinguir|asegurar|identificar|ver la imagen|determinarse)|imposible (?:de )?(?:decir|determinar|saber|responder)|no hay (?:ninguna )?(?:imagen|foto)$
\bnon (?:lo )?so\b|non saprei|nessuna idea|non (?:ne )?ho (?:la minima |nessuna )?idea|^(?:sconosciut[oa]|ignot[oa])$|non sono (?:\w+ )?sicur[oa]|nessuna immagine
non (?:lo )?(?:posso|riesco a|si puo|e possibile|sono in grado di|puo) (?:\w+ )?(?:dire|dirlo|determinare|determinarlo|rispondere|stabilire|stabilirlo|capire|identificare|vedere l ?immagine)|impossibile (?:da |a )?(?:dire|dirsi|determinare|stabilire|rispondere)
\bnao sei\b|nao (?:faco|tenho) (?:a menor |a minima |nenhuma |qualquer )?(?:ideia|certeza)|^sem ideia|^(?:desconhecid[oa]|indeterminad[oa])$|nao estou (?:segur[oa]|certo|certa)|nenhuma imagem
nao (?:posso|consigo|e possivel|da para|sou capaz de|se pode|saberia|podemos) (?:\w+ )?(?:dizer|determinar|responder|saber|identificar|afirmar|distinguir|ver a imagem)|impossivel (?:de )?(?:dizer|determinar|saber|responder)
weet (?:ik )?(?:het |dat )?(?:echt )?niet|geen idee|^(?:onbekend|onduidelijk)$|niet zeker$|geen (?:afbeelding|foto) (?:\w+ )?(?:beschikbaar|gegeven|verstrekt|bijgevoegd)
\bkan (?:\w+ ){0,5}?niet (?:\w+ ){0,2}?(?:zeggen|bepalen|zien|beoordelen|vaststellen|beantwoorden|opmaken|worden bepaald)\b|niet te (?:zeggen|bepalen|beoordelen)|onmogelijk te (?:zeggen|bepalen)
\bnie wiem\b|nie mam (?:zielonego )?pojecia|nie jestem (?:\w+ )?pew(?:ien|na)|trudno powiedziec|^nieznan[yae]$|brak (?:obrazu|obrazka|zdjecia|odpowiedzi|informacji|danych)
nie (?:moge|potrafie|jestem w stanie|mozna|da sie|umiem) (?:\w+ )?(?:powiedziec|okreslic|stwierdzic|odpowiedziec|ocenic|ustalic|rozpoznac|zobaczyc obrazu)
不知道|不清楚|不确定|不確定|不能确定|不能確定|看不清|不好说|不好說|^(?:未知|不明)$|没有(?:提供)?(?:图片|图像|照片)|沒有(?:提供)?(?:圖片|圖像|照片)|(?:无法|無法|不能|难以|難以)(?:判断|判斷|确定|確定|回答|看到|识别|識別|确认|確認|得知|辨认|辨認|看清|分辨)
わかりません|分かりません|わからない|分からない|判断(?:は)?(?:でき|出来)(?:ません|ない)|不明です|知りません|特定(?:は)?(?:でき|出来)(?:ません|ない)|答えられません|何とも言えません|画像が(?:ありません|提供されていません|見えません|ない)
"""
_LATIN_MARKS = re.compile("[\u0300-\u036f]")
_PATTERNS = re.compile("|".join(f"(?:{line})" for line in (_ENGLISH + _OTHERS).split("\n") if line))


def abstains(text: str) -> bool:
    """Whether a text says that it gives no answer.

    In English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Chinese and Japanese.

    >>> abstains("Cannot tell. No image was provided."), abstains("There is no picture on the wall")
    (True, False)
    """
    parts = re.sub(r"['’]", " ", text) if not text.isascii() else text
    return any(_PATTERNS.search(_plain(one)) is not None for one in {text, parts})


def _plain(text: str) -> str:
    apart = unicodedata.normalize("NFD", normalise(text))
    return unicodedata.normalize("NFC", _LATIN_MARKS.sub("", apart))
