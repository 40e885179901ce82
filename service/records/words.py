"""Which of several words on an answer counts, by a rule that is fixed before any is said.

What was drawn for an audit feeds a test, and whoever chooses which outcomes to correct chooses its
result. So there the first word counts, and only a second reviewer can change it, on the audits
that are due for a second look: all that the first word did not find right, and a random share of
the others (:data:`SECOND_SHARE`). A name in capitals, or with blanks around it, is the same
reviewer's. Words without a name are together those of one reviewer: nobody knows whose they are.
The second word then decides; where the two differ and a third reviewer speaks, two of three do.
Further words, and a reviewer who changes their own, are kept and shown. On all other answers, from
which nothing is concluded, the latest word counts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from probes.errors import DataError
from probes.labels import judge as judge_answer
from probes.labels.text import match_form
from probes.types import Missing
from service.records.outcome import Outcome

SECOND_SHARE = 0.1
"""Of the audits found right, drawn by a hash of the answer's id, a second reviewer judges too."""
MOST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the words on an answer come to.

    Args:
        outcome: the word that counts.
        wrong: whether the answer was, or ``Missing("no_answer")``.
        confirmed: two reviewers or more did not find it right.
        corrected: the first word did not find it right, or one of an earlier version, whose order
            nobody numbered; and the one that counts does.
        due: a second reviewer's word would count, and there is none.
    """

    outcome: Outcome
    wrong: bool | Missing
    confirmed: bool
    corrected: bool
    due: bool


def rule_on(answer: str | None, audit: bool, words: Iterable[Outcome]) -> Ruling | None:
    """What counts; None without a word.

    Args:
        answer: its text. audit: whether it was drawn for one.
        words: all on this answer, in any order.
    """
    said = sorted(words, key=lambda w: (w.position or 0, w.created, w.version))
    if not said:
        return None
    people = _independent(said)
    found = [judge(answer, word) for word in people]
    second = audit and (found[0] is not False or _drawn(said[0].answer_id))
    counts = 0
    if not audit:
        people, found = [said[-1]], [judge(answer, said[-1])]
    elif second and len(people) > 1:
        counts = 1 if len(people) == 2 or found[0] == found[1] else 2
    confirmed = sum(wrong is True for wrong in found) > 1
    before = (word for word in said if audit and word.position is None)
    doubted = found[0] is True or any(judge(answer, word) is True for word in before)
    corrected = doubted and found[counts] is False
    return Ruling(people[counts], found[counts], confirmed, corrected, second and len(people) == 1)


def judge(answer: str | None, outcome: Outcome) -> bool | Missing:
    """Whether an answer was wrong: as the reviewer says, or by comparison with the reference.

    ``cannot_tell`` counts as wrong. The outcome names the rule that compares a reference. Where an
    earlier version kept none, that version's documents said: "yes" and "no" by ``yes_no``, any
    other reference by ``match`` (docs/decisions/0012). ``Missing("no_answer")`` when there is no
    text to compare.
    """
    if outcome.cannot_tell:
        return True
    if outcome.correct is not None:
        return not outcome.correct
    if answer is None or outcome.reference is None:
        return Missing("no_answer")
    rule = outcome.rule
    if rule is None:
        rule = "yes_no" if match_form(outcome.reference) in ("yes", "no") else "match"
    try:
        return judge_answer(answer, [outcome.reference], rule).wrong
    except DataError:  # of that time: a reference without a word, which nothing equals
        return True


def _independent(said: Sequence[Outcome]) -> list[Outcome]:
    """The first word of each reviewer, at most three.

    Of the words of earlier versions, which have no position, the latest counted.
    """
    earlier = [word for word in said if word.position is None]
    found = earlier[-1:]
    for word in said[len(earlier) :]:
        if all(_person(word) != _person(other) for other in found):
            found.append(word)
    return found[:MOST_WORDS]


def _person(word: Outcome) -> str:
    """Who spoke, however they wrote it: in capitals, wide letters, with blanks or signs unseen."""
    plain = unicodedata.normalize("NFKC", word.reviewer).casefold()
    seen = "".join(sign for sign in plain if unicodedata.category(sign) not in ("Cc", "Cf"))
    return " ".join(seen.split())


def _drawn(answer_id: str) -> bool:
    """Alike in every replica, and nothing that a client or a reviewer chooses."""
    digest = sha256(b"second word\0" + answer_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < SECOND_SHARE * 2**64
