"""How often the model is right, beside how often one answer to everything would be.

A model below the latter is seldom that bad: more often the labels are broken, as where "Yes, there
is" counts as wrong. So this is what is looked at first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probes.labels.text import normalise
from probes.store import Record


@dataclass(frozen=True, slots=True)
class BaseAccuracy:
    """Of one kind of question, or of ``all``.

    Args:
        accuracy: share of right answers.
        majority_answer: the commonest reference.
        majority_rate: its share.
    """

    kind: str
    answers: int
    accuracy: float
    majority_answer: str
    majority_rate: float

    @property
    def below_majority(self) -> bool:
        """One answer to every question would be right more often."""
        return self.accuracy < self.majority_rate

    @property
    def warning(self) -> str:
        """What is said where it is below."""
        return (
            f"accuracy of kind {self.kind} ({self.accuracy:.1%}) is below always answering "
            f"{self.majority_answer!r} ({self.majority_rate:.1%}); check the labels"
        )


def base_accuracy(records: Sequence[Record]) -> tuple[BaseAccuracy, ...]:
    """Of all answers, then per kind of question in alphabetical order."""
    kinds = sorted({record.kind for record in records})
    parts = {"all": list(records)} | {
        kind: [record for record in records if record.kind == kind] for kind in kinds
    }
    found = []
    for kind, part in parts.items():
        truths = Counter(normalise(record.references[0]) for record in part)
        answer, count = truths.most_common(1)[0]
        right = sum(not record.wrong for record in part)
        found.append(BaseAccuracy(kind, len(part), right / len(part), answer, count / len(part)))
    return tuple(found)
