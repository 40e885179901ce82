"""One or several reproductions as a page of Markdown, a column for each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from probes.guarantee.certify import DELTA
from probes.report.table import Table, to_markdown
from probes.reproduce import cells
from probes.reproduce.cells import Cells, Reproduction
from probes.reproduce.papers import verdict_counts

INTRODUCTION = (
    "What arXiv 2605.08200 and 2606.17389 (VRP) claim about signals of a right answer, and what "
    "came out here; prompt-side attention after 2606.23763 (PV-TAM) is a stand-in of our own, as "
    "its formulae are not public. Made by `vlm-gate reproduce`; do not edit.",
    "Everything is measured on the test split, which nothing was fitted to. Brackets are 95 % "
    "intervals, bootstrapped by image; Fisher's, where told, takes answers as independent, and so "
    "does McNemar's exact test. R is the point-biserial correlation with being right; AUROC is "
    "that of the risk, in the direction that a signal's proponents claim (concentrated attention "
    "means right), so below .5 it ranks the other way round.",
    "The papers' POPE stands beside our yes/no questions, their VQA v2 beside our other ones, and "
    "their models are others than these: a claim that is not seen here may hold there.",
)


def render(found: Sequence[Reproduction]) -> str:
    """The whole page."""
    blocks = ["# The papers' comparison, reproduced", *INTRODUCTION, *_verdicts(found)]
    blocks += [to_markdown(table) for table in _tables(found) if table.rows]
    return "\n\n".join(blocks) + "\n"


def _verdicts(found: Sequence[Reproduction]) -> list[str]:
    """Say per model how many claims were seen, and what the evaluation warns of."""
    told = []
    for one in found:
        about = [claim for claim in one["claims"] if claim["about_this_family"]]
        counts = verdict_counts(one["claims"])
        counted = [f"{count} {verdict}" for verdict, count in counts.items()]
        counted.append(f"{len(about) - sum(counts.values())} not judged")
        told.append(
            f"**{_name(one)}**: of {len(about)} claims about its family {', '.join(counted)}."
        )
    return told + [
        f"Warning about {_name(one)}: {warning['text']}."
        for one in found
        for warning in one["flags"]
    ]


def _name(one: Reproduction) -> str:
    family, name = one["model"]["family"], one["model"]["name"]
    return name if name == family else f"{name} ({family})"


def _pivot(
    title: str,
    keys: Sequence[str],
    found: Sequence[Reproduction],
    column_of: Callable[[Reproduction], Cells],
    *notes: str,
) -> Table:
    """Build a table with a row per key and a column per model; ``-`` where a model has none."""
    columns = [column_of(one) for one in found]
    rows: list[tuple[str, ...]] = []
    for column in columns:
        at = 0
        for key in column:  # one that only this model has goes after the one before it
            if key not in rows:
                rows.insert(at, key)
            at = rows.index(key) + 1
    return Table(
        title,
        (*keys, *map(_name, found)),
        tuple((*key, *(column.get(key, "-") for column in columns)) for key in rows),
        notes,
    )


def _tables(found: Sequence[Reproduction]) -> list[Table]:
    return [
        _pivot("Models and data", ("what",), found, cells.setting),
        _pivot("The papers' numbers and ours", ("quantity", "papers"), found, cells.numbers),
        _pivot(
            "Their claims", ("claim", "papers", "seen when"), found, cells.claims,
            "Each claim is seen, not seen or opposite by the rule in its row, then our value. In "
            "brackets: a claim about other families, not counted above.",
        ),
        _pivot(
            "Attention and being right", ("metric", "from", "questions"), found, cells.attention,
            "R with being right of the metric itself, attention averaged over layers and heads. In "
            "square brackets the interval by image, in round ones Fisher's.",
        ),
        _pivot(
            "Attention by layer", ("metric", "from", "layer"), found, cells.attention_layers,
            "AUROC; R with being right of the metric itself.",
        ),
        _pivot(
            "Attention by head", ("metric", "heads"), found, cells.heads,
            "From the answer's tokens. Extremes among many heads are picked on these very answers "
            "and look better than they are.",
        ),
        _pivot(
            "Prompt-side attention", ("metric", "layer"), found, cells.prompt_side,
            "AUROC; R. A stand-in: content words' map minus that of the template's tokens.",
        ),
        _pivot(
            "AUROC of every signal", ("questions", "signal"), found, cells.signals,
            "Of the answers that have every signal; 0.5 is chance.",
        ),
        _pivot(
            "R of every signal", ("questions", "signal"), found, cells.signal_correlations,
            "Of the risk with errors, so above 0 where the signal works. In square brackets the "
            "interval by image, in round ones Fisher's.",
        ),
        _pivot(
            "Signals against token confidence", ("signal",), found, cells.against,
            "Paired difference of AUROC on the same answers.",
        ),
        _pivot(
            "Probe by layer", ("position", "layer"), found, cells.probe_layers,
            "AUROC of L2 probes; the one that is shipped was chosen on other answers.",
        ),
        _pivot(
            "Margins by layer (logit lens)", ("questions", "layer"), found, cells.margins,
            "AUROC of a small margin: of the answer given for yes/no, else top 1 against top 2.",
        ),
        _pivot(
            "Visual evidence as a signal", ("questions", "taken away"), found, cells.evidence,
            "AUROC of a small drop of the answer's log-probability; share of answers that flip.",
        ),
        _pivot(
            "Accuracy with parts of the image masked", ("questions", "from", "to"), found,
            cells.masking,
            "Accuracy before and after; points lost; McNemar's p.",
        ),
        _pivot(
            "Neurons ablated", ("neurons", "held at", "which"), found, cells.ablation,
            "Points of accuracy lost: the probe's top neurons (McNemar's p), as many random ones "
            "(mean over draws; least and most of them), and how much more the top ones cost.",
        ),
        _pivot(
            "Controls", ("control",), found, cells.controls,
            "AUROC of what can be predicted without what the probe is said to read; how far the "
            "probe is above it.",
        ),
        _pivot("Accuracy", ("questions",), found, cells.accuracy),
        _pivot(
            "Certificates", ("alpha", "self-consistency"), found, cells.certificates,
            f"At most alpha of the accepted answers are wrong, with confidence {1 - DELTA:.0%}. "
            "What the threshold does on the test split.",
        ),
        _pivot("Answers not measured", ("what", "reason"), found, cells.not_measured),
        _pivot("Fingerprints", ("what",), found, cells.fingerprints),
    ]  # fmt: skip
