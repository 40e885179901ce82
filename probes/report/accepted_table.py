"""The table of accepted answers per kind of question and slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.report.table import Table, format_interval


def accepted_table(evaluation: Mapping[str, Any]) -> Table:
    """Build the table, without rows where the evaluation has no numbers or accepts nothing."""
    rows = [
        (
            row["self_consistency"],
            row["name"] if row["by"] is None else f"{row['by']} {row['name']}",
            row["certificate"] or "none",
            f"{row['accepted']} of {row['answers']}",
            format_interval(row["coverage"], percent=True),
            f"{row['wrong']} of {row['accepted']}",
            format_interval(row["error"], percent=True),
        )
        for row in evaluation.get("accepted", ())
    ]
    return Table(
        "Accepted answers of the test split, per kind and slice",
        (
            "self-consistency", "answers about", "certificate", "accepted", "coverage",
            "wrong of accepted", "error rate",
        ),
        tuple(rows),
        (
            "Under the certificate that serves. It promises its error rate for all accepted "
            "answers together: a kind or slice without a certificate of its own may err more. "
            "Intervals are Wilson's at 95 %, answers about one image counted as if all alike.",
        ),
    )  # fmt: skip
