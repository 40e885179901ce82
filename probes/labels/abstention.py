"""Answers that give none: "I have no idea", "Das lässt sich nicht sagen", 不知道."""

from __future__ import annotations

import re
from functools import lru_cache

from probes.labels.doubt import alternatives, plain

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
        alternatives(part).replace(f" {_GAP} ", r" (?:\w+ ){0,6}?")
        for part in (unable, verbs, phrases, whole)
    )
    return rf"\b(?:{first}) (?:\w+ )?(?:{second})\b|\b(?:{anywhere})\b|^(?:{alone})$"


_ENGLISH = _pattern(
    unable="""cannot|can not|cant|could not|couldnt|unable to|not able to|not possible to|
        impossible to|hard to|difficult to|tough to|not possible for me to|no way to|failed to""",
    verbs="""tell|say|determine|answer|know|judge|assess|identify|confirm|verify|provide|help|
        assist|make out|determined|sure|certain|identified|answered|confirmed|discern|comply|
        respond|comment|decide|conclude|be (?:sure|certain|determined|said|answered|confirmed)|
        (?:see|view|access|open|process|analy[sz]e)(?:\\s(?:the|this|that|an|any|your))?
        (?:images?|pictures?|photos?|photographs?|attachments?)""",
    phrases="""(?:do not|dont|did not|didnt|would not|wouldnt) (?:\\w+ )?know|
        (?:have|has|having|ive got|got) no (?:\\w+ )?(?:idea|clue|way of knowing|way to know)|
        no way (?:of knowing|to tell|to know)|
        (?:am|im|is|are|being) not (?:\\S+ ){0,3}?(?:sure|certain|confident)|
        not (?:\\d+ % |\\w+ percent |entirely |completely |totally |fully |quite |too |so |very )+
        (?:sure|certain|confident)|not sure (?:if|whether|about|what|how|of)|unsure|uncertain|
        (?:it|that|this|answer) (?:is|remains) (?:not clear|unclear)|
        (?:no|without|without an|without any|any)
        (?:image|picture|photo|photograph|attachment)s?(?:\\s(?:was|is|were|are|has been))?
        (?:provided|attached|given|available|uploaded|included|shared|supplied|here|visible|loaded|
        (?:to|that i can|i can|for me to) (?:see|look|view|analy[sz]e|inspect|examine|judge))|
        (?:do not|dont|did not|didnt|cannot|cant) (?:have|see|get|receive|find) (?:an|any|the|your)
        (?:image|picture|photo|photograph|attachment)s?(?:\\s(?:here|yet|at all|in .*))?$|
        (?:have|has|see|got|received) no (?:image|picture|photo|photograph|attachment)s?$|
        there (?:is|was|are) no (?:image|picture|photo|photograph|attachment)s?$|
        (?:please|could you|can you) (?:please )?(?:(?:re)?upload|provide|clarify|specify|resend|
        (?:share|send|attach|give) (?:me|us|it|your|more|(?:the|an|a) (?:image|picture|photo)))|
        (?:would|will) need (?:to see|more|the|a|an|additional) .*|
        (?:image|picture|photo|photograph|attachment)s? (?:was|is|were|are|has been) not
        (?:provided|attached|given|available|uploaded|included|shared|supplied)|
        (?:not enough|insufficient|too little) (?:\\w+ )?(?:information|info|details?|context|data|
        evidence)|
        no (?:\\w+ )?(?:information|info) (?:is |was )?(?:available|given|provided|to|about|on|in)|
        (?:information|answer) is not (?:available|given|provided|known)|
        as an? (?:ai|(?:large )?language model)|
        (?:i am|im) (?:just |only )?an? (?:ai|language model|text)|
        (?:do not|dont) have (?:access|enough|sufficient|the ability|any information)""",
    whole="""no idea|no clue|idk|dunno|beats me|not sure|not certain|not clear|unclear|unknown|
        undetermined|indeterminate|unanswerable|n a|n/a|na|not applicable|not available|no answer|
        no comment|depends|it depends|(?:there is )?no (?:image|picture|photo|attachment)s?|
        (?:there is )?no (?:\\w+ )?(?:information|info|opinion|response|clear answer)|
        (?:sorry |no )?(?:i |we |it )?(?:cannot|can not|cant|could not|couldnt|wont|will not)(?:|
        \\s(?:tell|say|be|do (?:that|this|so|it)|see(?:|\\s(?:it|that|this|well|anything))))|
        (?:i am )?unable(?: to)?|
        who knows|anyones guess|your guess is as good as mine|no way to (?:tell|know)|
        (?:(?:i am|im) )?sorry|nan|undefined""",
)
_GERMAN = _pattern(
    unable="(?:kann|konnen|konnte|lasst sich|lasst es sich) ... nicht",
    verbs="""sagen|erkennen|beurteilen|bestimmen|feststellen|beantworten|entscheiden|
        das bild sehen""",
    phrases="""weiss (?:ich )?(?:es |das )?(?:leider )?nicht|keine ahnung|
        nicht zu (?:erkennen|sagen|sehen|beurteilen|bestimmen)|
        (?:schwer|schwierig|unmoglich|nicht moglich) zu \\w+|
        kann ich (?:\\w+ )?nicht|als ki|keine (?:\\w+ )?(?:information|informationen|angabe|angaben|
        auskunft)|(?:nicht genug|zu wenig) informationen|sehe kein bild|
        nicht (?:\\w+ )?(?:sicher|eindeutig|beantwortbar)|
        nicht erkennbar|nicht bestimmbar|nicht feststellbar|bin (?:mir )?(?:da )?nicht sicher|
        kein bild (?:\\w+ )?(?:vorhanden|bereitgestellt|angehangt|verfugbar)""",
    whole="""unklar|unbekannt|ungewiss|unsicher|nicht sicher|
        (?:da ist |es gibt |hier ist )?kein bild|
        (?:ich )?kann (?:ich )?nicht|k a|nicht sichtbar|nicht klar|unmoglich|unleserlich|
        kommt drauf an|weiss nicht""",
)
_FRENCH = _pattern(
    unable="""(?:peux|peut|puis|pouvons|parviens a|arrive a|suis) pas (?:en mesure de )?|
        impossible de|impossible a|difficile a|difficile de""",
    verbs="""dire|determiner|repondre|savoir|identifier|distinguer|juger|sure?|certaine?|
        voir l ?image""",
    phrases="""ne sais pas|aucune idee|pas la moindre idee|aucune image|pas d ?image|pas de reponse|
        (?:aucune|pas d|pas assez d) ?informations?|
        (?:nest|est|suis) pas (?:\\w+ )?(?:sure?|certaine?|claire?|visible)|en tant qu ?ia|
        (?:impossible|difficile) (?:a|de) \\w+""",
    whole="""sais pas|inconnue?|indetermine|pas (?:\\w+ )?(?:sure?|certaine?|claire?|visible)|
        (?:je )?ne peux pas|peux pas|incertaine?|non visible|impossible|ca depend""",
)
_SPANISH = _pattern(
    unable="""no (?:lo )?(?:puedo|podria|podemos|se puede|puede|es posible|logro)|imposible|
        imposible de""",
    verbs="""decir(?:lo)?|determinar(?:lo|se)?|responder|saber(?:lo)?|distinguir|asegurar|
        identificar|ver la imagen""",
    phrases="""no lo se|ni idea|no tengo (?:ni |la menor |ninguna )?idea|
        no (?:estoy|esta|es) (?:\\w+ )?(?:segur[oa]|claro|clara|visible)|
        no se (?:si|que|cual|cuant[oa]s?|donde)|no hay (?:\\w+ )?informacion|
        no (?:lo |la )?(?:puedo|logro|se puede|alcanzo a) (?:ver|verlo|distinguir\\w*|
        apreciar\\w*)(?: bien)?$|
        no veo (?:la|ninguna|una) (?:imagen|foto)|(?:dificil|imposible) (?:de )?\\w+|como ia""",
    whole="""no se|yo no se|desconocid[oa]|no hay (?:ninguna )?(?:imagen|foto)|no (?:lo )?puedo|
        no visible|no se (?:ve|distingue|aprecia)(?: bien)?|sin informacion|depende|
        no (?:estoy )?segur[oa]|ninguna imagen""",
)
_ITALIAN = _pattern(
    unable="""non (?:lo )?(?:posso|riesco a|si puo|e possibile|sono in grado di)|impossibile|
        impossibile da""",
    verbs="""dir(?:e|lo)|determinar(?:e|lo)|rispondere|stabilir(?:e|lo)|capire|identificare|
        vedere l ?immagine""",
    phrases="""non (?:lo )?so|non saprei|nessuna idea|non (?:ne )?ho (?:la minima )?idea|
        non sono (?:\\w+ )?(?:sicur[oa]|cert[oa])|nessuna immagine|
        (?:nessuna|non ci sono|non ho) (?:\\w+ )?informazion[ei]|
        non e (?:\\w+ )?(?:chiaro|visibile)|
        non (?:posso|riesco a) (?:veder(?:e|lo)|distinguer(?:e|lo))(?: bene)?$|
        (?:difficile|impossibile) (?:da |a )?\\w+|come ia|
        non vedo (?:l ?immagine|nessuna immagine)""",
    whole="""sconosciut[oa]|ignot[oa]|non (?:lo )?posso|non visibile|non chiaro|
        non si vede(?: bene)?|
        non (?:sono )?(?:sicur[oa]|cert[oa])|dipende|non c ?e (?:nessuna |un )?immagine""",
)
_PORTUGUESE = _pattern(
    unable="nao (?:posso|consigo|e possivel|da para|se pode|podemos)|impossivel",
    verbs="dizer|determinar|responder|saber|identificar|afirmar|distinguir|ver a imagem",
    phrases="""nao sei|nao faco ideia|nao tenho (?:a menor |a minima |nenhuma )?(?:ideia|certeza)|
        nao estou (?:\\w+ )?(?:segur[oa]|cert[oa])|nenhuma imagem|
        (?:sem|nao ha|nenhuma) (?:\\w+ )?informac(?:ao|oes)|
        nao (?:esta|e) (?:\\w+ )?(?:claro|visivel)|
        nao (?:consigo|posso|da para) (?:ver|distinguir|enxergar)(?: bem)?$|como uma? ia|
        (?:dificil|impossivel) (?:de )?\\w+|nao vejo (?:a|nenhuma) imagem""",
    whole="""sem ideia|desconhecid[oa]|indeterminad[oa]|nao (?:posso|consigo)|nao visivel|
        nao (?:tenho )?certeza|depende|nao ha (?:nenhuma )?imagem|incert[oa]""",
)
_DUTCH = _pattern(
    unable="kan ... niet|niet te|onmogelijk te",
    verbs="zeggen|bepalen|beoordelen|vaststellen|beantwoorden|opmaken|de afbeelding zien",
    phrases="""weet (?:ik )?(?:het |dat )?(?:echt )?niet|geen idee|
        geen (?:afbeelding|foto) (?:\\w+ )?(?:beschikbaar|gegeven|verstrekt|bijgevoegd)""",
    whole="""onbekend|onduidelijk|niet zeker|geen afbeelding|kan ik niet|(?:ik )?kan niet|
        niet (?:zichtbaar|duidelijk)|geen informatie|moeilijk te zeggen|onzeker""",
)
_POLISH = _pattern(
    unable="nie (?:moge|potrafie|jestem w stanie|mozna|da sie|umiem)",
    verbs="powiedziec|okreslic|stwierdzic|odpowiedziec|ocenic|ustalic|rozpoznac|zobaczyc obrazu",
    phrases="""nie wiem|nie mam (?:zielonego )?pojecia|nie jestem (?:\\w+ )?pew(?:ien|na)|
        trudno powiedziec|brak (?:obrazu|obrazka|zdjecia|odpowiedzi|informacji|danych)""",
    whole="nieznan[yae]|nie moge|niewidoczn[yae]|niejasn[yae]|nie widac|niepewn[yae]",
)
# No blanks between words: anywhere in the answer.
_CHINESE = (
    "不知道|不清楚|不[确確]定|不能[确確]定|看不清|不好[说說]|[没沒]有(?:提供)?(?:[图圖][片像]|照片)|"
    "(?:[无無]法|不能|[难難]以)(?:判[断斷]|[确確][定认認]|回答|看到|看清|[识識][别別]|得知|辨[认認]|分辨)|"
    "[无無沒没](?:有)?(?:提供)?(?:[图圖][片像]|[相照]片|信息|資訊|资料)|[难難](?:以)?[说說]|说不清|說不清|不可[见見]|"
    "看不[到见見清出]|[无無]法(?:[查观觀]看|[说說]明|提供|得出)|不太?(?:确定|確定|清楚)|作为(?:一个)?(?:AI|ai|人工智能)|"
    "^(?:未知|不明|不能|[无無]法|不可[见見]|看不[见見])$"
)
_JAPANESE = (
    "[わ分]かり(?:ません|かねます)|[わ分]からない|知りません|答えられません|何とも言えません|不明です|"
    "(?:判断|特定|確認)(?:は)?(?:でき|出来)(?:ません|ない)|"
    "画像が(?:ありません|提供されていません|見えません|ない)|情報が(?:ありません|足りません|不足)|"
    "見えません|読めません|はっきりしません|言えません|なんとも言え|難しいです|分からず|"
    "^(?:不明|未定|でき(?:ない|ません)|見えない)$"
)
_LANGUAGES = (_ENGLISH, _GERMAN, _FRENCH, _SPANISH, _ITALIAN, _PORTUGUESE, _DUTCH, _POLISH)
_PATTERNS = [re.compile(one) for one in (*_LANGUAGES, _CHINESE, _JAPANESE)]


@lru_cache(maxsize=4096)
def abstains(text: str) -> bool:
    """Return whether a text says that it gives no answer.

    In English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Chinese and Japanese.

    >>> abstains("Cannot tell. No image was provided."), abstains("There is no picture on the wall")
    (True, False)
    """
    said = plain(text)
    return any(pattern.search(said) is not None for pattern in _PATTERNS)
