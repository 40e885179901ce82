"""Finds what a reader must know before believing any number of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.judge.accepted import above_alpha
from probes.types import Interval, Missing

CLAIMS: Mapping[str, str] = {
    "shuffled_labels": "a probe on shuffled labels",
    "question_words": "the words of the question alone: the image may not matter to it",
    "answer_words": "the words of the answer alone: it may read the answer's form",
    "blank_image": "states that saw a blank image: the image may not matter to it",
    "question_and_answer_words": "the words of question and answer together: it may read which "
    "answers go with which questions, and neither image nor model",
    "question_kind": "the kind of the question alone: it may not tell answers of a kind apart",
}

OF_THE_RISK = ("question_and_answer_words", "question_kind")
"""Controls that the whole risk is held against: it may read token confidence and kind as well."""


def find_warnings(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return names and texts, the gravest first: labels, what the probe reads, the promise.

    Args:
        evaluation: of :func:`probes.judge.evaluate.evaluate`, not yet as plain JSON.
    """
    found = [
        {
            "name": "accuracy_below_majority",
            "text": (
                f"on the test split, accuracy of kind {kind} ({row['accuracy'].estimate:.1%}) is "
                f"below always answering {row['majority_answer']!r} ({row['majority_rate']:.1%}); "
                "check the labels"
            ),
        }
        for kind, row in evaluation["accuracy"].items()
        if row["below_majority"] and not isinstance(row["accuracy"], Missing)
    ]
    training = evaluation["training"]
    if training.get("shown_image") == "blank":
        found.append(
            {
                "name": "trained_on_blank_images",
                "text": "the bundle was trained on a run with blank images: it knows the questions "
                "alone",
            }
        )
    for name, row in evaluation["controls"].items():
        reader = "risk" if name in OF_THE_RISK else "probe"
        above: Interval | Missing = row[f"{reader}_above"]
        if not isinstance(above, Missing) and above.lower <= 0:
            found.append(
                {
                    "name": f"{reader}_not_above_{name}",
                    "text": f"the {reader} is not better beyond noise than {CLAIMS[name]} "
                    f"(AUROC differs by {above.estimate:+.3f} [{above.lower:+.3f}, "
                    f"{above.upper:+.3f}])",
                }
            )
    for row in above_alpha(evaluation["accepted"], evaluation["serving_alpha"]):
        error: Interval = row["error"]
        part = "answers" if row["by"] is None else f"answers of {row['by']} {row['name']}"
        found.append(
            {
                "name": "accepted_above_alpha",
                "text": f"of the accepted {part} {error.estimate:.1%} [{error.lower:.1%}, "
                f"{error.upper:.1%}] are wrong on the test split (self-consistency "
                f"{row['self_consistency']}), above the {evaluation['serving_alpha']:.4g} that is "
                "promised for all accepted answers together",
            }
        )
    for model in training.get("probe_models", ()):
        ahead = model["best_ahead_by"]
        if model["chosen"] and ahead["lower"] > 0:
            found.append(
                {
                    "name": "challenger_ahead",
                    "text": "a challenger that a bundle cannot serve is ahead of the shipped "
                    f"probe ({model['name']}) by {ahead['estimate']:.3f} AUROC on the selection "
                    "split",
                }
            )
    serving = [
        one for one in evaluation["certificates"] if one["alpha"] == evaluation["serving_alpha"]
    ]
    if not any("certificate" in one for one in serving):
        found.append(
            {"name": "no_certificate", "text": "no certificate: nothing is accepted automatically"}
        )
    return found
