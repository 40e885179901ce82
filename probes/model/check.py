"""Checks that the parts of a bundle fit each other, so that nothing fails on the first answer."""

from __future__ import annotations

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.risk import KIND, split_feature
from probes.monitor.drift import RiskHistogram
from probes.signals.catalogue import FEATURES
from probes.signals.question import QuestionModel
from probes.types import FloatArray, Missing, Signals


def check_bundle(bundle: Bundle) -> None:
    """Raise BundleError naming the first field that does not fit the others."""
    probe, domain, model = bundle.probe, bundle.domain, bundle.model
    hidden = (model.hidden_size,)
    for name in ("weights", "mean", "scale"):
        _check_shape(f"probe.{name}", getattr(probe, name), hidden)
    if not (probe.scale > 0).all():
        raise BundleError("probe.scale", "holds a value that is not above 0; train it again")
    _check_shape("probe.components", probe.components, (len(probe.components), *hidden))
    features = (len(domain.mean),)
    _check_shape("domain.mean", domain.mean, features)
    _check_shape("domain.precision", domain.precision, features * 2)
    if domain.latent not in (0, len(probe.components)):
        raise BundleError("domain.latent", f"is {domain.latent}, not 0 or {len(probe.components)}")
    if not 0 <= probe.layer <= model.layers:
        raise BundleError("probe.layer", f"is {probe.layer}, not from 0 to {model.layers}")
    for layer in bundle.attention_layers:
        if type(layer) is not int or not 1 <= layer <= model.layers:
            raise BundleError("attention_layers", f"{layer!r} is not from 1 to {model.layers}")
    kinds = () if bundle.kinds is None else bundle.kinds.kinds
    if bundle.kinds is not None:
        if not kinds:
            raise BundleError("kinds.kinds", "is empty; train the bundle again")
        _check_shape("kinds.weights", bundle.kinds.weights, (len(bundle.kinds.words), len(kinds)))
        _check_shape("kinds.intercept", bundle.kinds.intercept, (len(kinds),))
    for stage, risk in (("stage_one", bundle.stage_one), ("stage_two", bundle.stage_two)):
        if isinstance(risk, Missing):
            continue
        for name in risk.features:
            if not _is_feature(name, kinds):
                raise BundleError(f"{stage}.features", f"{name!r} is no feature")
        _check_shape(f"{stage}.weights", risk.weights, (len(risk.features),))
    for name in bundle.policy.required:
        if name not in Signals.__dataclass_fields__:
            raise BundleError("policy.required", f"{name!r} is no signal")
    if isinstance(bundle.questions, QuestionModel):
        bundle.questions.prepare()
    reference = bundle.training.get("risk_reference")
    if reference is not None:
        try:
            RiskHistogram.from_dict(reference)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("training.risk_reference", f"{error}; train it again") from error


def _is_feature(name: str, kinds: tuple[str, ...]) -> bool:
    feature, kind = split_feature(name)
    if kind is None:
        return feature in FEATURES
    return kind in kinds and feature in (KIND, *FEATURES)


def _check_shape(name: str, array: FloatArray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype.kind != "f":
        raise BundleError(name, f"is {array.dtype} of shape {array.shape}, not floats of {shape}")
