"""What a risk is made of, in words that are true to the bundle."""

from __future__ import annotations

from collections.abc import Sequence

from probes.model.risk import split_feature
from probes.signals.catalogue import FEATURES

_NAMES = {
    "hidden_state_probe": "the hidden-state probe",
    "token_confidence": "token confidence",
    "self_consistency": "self-consistency",
}


def made_of(features: Sequence[str]) -> str:
    """Name the signals behind a risk's features, and say whether kinds of question weigh them."""
    plain = [name for name in features if split_feature(name)[1] is None]
    signals = dict.fromkeys(FEATURES[name].signal for name in plain)
    named = []
    for signal in signals:
        fields = [name for name in plain if FEATURES[name].signal == signal]
        named.append(_NAMES[signal] + (f" ({', '.join(fields)})" if len(fields) > 1 else ""))
    by_kind = "" if len(plain) == len(features) else ", weighed by the kind of question"
    return " and ".join(named) + by_kind


def has_probe(features: Sequence[str]) -> bool:
    """Return whether the probe on the hidden states takes part."""
    return "probe_logit" in features
