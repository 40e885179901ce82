"""Hidden-state probe: the log-odds that a linear probe reads from the model's hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probes.types import FloatArray, HiddenStateProbe, Missing, Trace

if TYPE_CHECKING:
    from probes.model.probe import LinearProbe


def measure_probe(trace: Trace, probe: LinearProbe) -> HiddenStateProbe | Missing:
    """Measure the probe's logit, higher is riskier; ``Missing`` as :func:`project` says."""
    projected = project(trace, probe)
    if isinstance(projected, Missing):
        return projected
    return HiddenStateProbe(logit=float(projected[0]), layers=(probe.layer,))


def project(trace: Trace, probe: LinearProbe) -> FloatArray | Missing:
    """Return the probe's logit followed by the latent coordinates, shape (1 + k,).

    A served trace holds ``x @ projection``, shape (1 + k,); a collected one the whole hidden state
    x, shape (hidden,). Both give the same numbers up to rounding.

    Returns ``Missing`` with the engine's reason, ``not_collected`` when the layer and position were
    not read, or ``not_finite``. Raises ValueError when the readout has another width: the engine
    read with another bundle's projection.
    """
    readout = trace.readouts.get((probe.layer, probe.position), Missing("not_collected"))
    if isinstance(readout, Missing):
        return readout
    columns, hidden = 1 + probe.components.shape[0], probe.components.shape[1]
    vector = readout.astype(np.float64)
    if vector.shape == (hidden,):
        vector = vector @ probe.projection
    elif vector.shape != (columns,):
        raise ValueError(
            f"readouts[{probe.layer}, {probe.position!r}]: shape {vector.shape}, "
            f"but the probe needs ({columns},) or ({hidden},)"
        )
    vector = vector + probe.offset
    return vector if np.isfinite(vector).all() else Missing("not_finite")
