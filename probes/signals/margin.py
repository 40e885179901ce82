"""Layer-wise margins by the logit lens: how decided each layer already is. Offline only.

For yes/no questions the margin is that of the given answer, yes against no, and negative where a
layer leans to the other one; for others it is the largest minus the second-largest logit. The
papers' "truth margin" needs the right answer and could not be deployed.
"""

from __future__ import annotations

import numpy as np

from probes.types import FloatArray, Missing, Trace


def measure_margins(trace: Trace, parsed: str) -> FloatArray | Missing:
    """Measure the margin at every layer of the lens, (layers,).

    Args:
        parsed: the answer as it was judged; "yes" and "no" are margins against each other.

    Returns ``Missing`` with the lens's reason, ``no_yes_no_token`` or ``not_finite``.
    """
    lens = trace.lens
    if isinstance(lens, Missing):
        return lens
    margins = lens.top
    if parsed in ("yes", "no"):
        if isinstance(lens.yes_no, Missing):
            return lens.yes_no
        margins = lens.yes_no if parsed == "yes" else -lens.yes_no
    return margins if np.isfinite(margins).all() else Missing("not_finite")
