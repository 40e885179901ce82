"""The parts of a bundle as plain JSON and tensors, and back.

A part is a frozen dataclass. Reading checks every field and raises BundleError with the name of the
first that is missing, unknown or of another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from probes.errors import BundleError
from probes.model.bundle import CertificateAttempt
from probes.model.calibration import CalibrationMap, IsotonicMap, PlattMap, VennAbersMap
from probes.model.certificate import Certificate, NoCertificate
from probes.model.risk import RiskModel
from probes.model.typed import fits
from probes.types import CONSISTENCY_MODES, Interval

CALIBRATIONS: Mapping[str, type[CalibrationMap]] = {
    "platt": PlattMap,
    "isotonic": IsotonicMap,
    "venn_abers": VennAbersMap,
}

Part = TypeVar("Part")
Tensors = dict[str, NDArray[Any]]


def pack(part: Any, prefix: str, tensors: Tensors) -> dict[str, Any]:
    """Return a frozen dataclass as JSON; its arrays go to ``tensors`` under ``prefix.field``."""
    plain: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, np.ndarray):
            tensors[f"{prefix}.{field.name}"] = np.ascontiguousarray(value)
        elif is_dataclass(value):
            plain[field.name] = pack(value, f"{prefix}.{field.name}", tensors)
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def unpack(kind: type[Part], plain: dict[str, Any], prefix: str, tensors: Tensors) -> Part:
    """Read what :func:`pack` wrote; BundleError names ``prefix.field``."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }
    start = prefix + "."
    values |= {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start) and "." not in name.removeprefix(start)
    }
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in sorted(known ^ set(values)):
        problem = "is missing" if name in known else "is unknown"
        raise BundleError(f"{prefix}.{name}", f"{problem}; train the bundle again")
    for name, hint in get_type_hints(kind).items():
        if not fits(values[name], hint):
            raise BundleError(f"{prefix}.{name}", f"is {values[name]!r}; train the bundle again")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise BundleError(prefix, str(error)) from error


def pack_risk(model: RiskModel, prefix: str, tensors: Tensors) -> dict[str, Any]:
    """Like :func:`pack`, with the kind of calibration map, one of :data:`CALIBRATIONS`."""
    plain = pack(model, prefix, tensors)
    (kind,) = (name for name, one in CALIBRATIONS.items() if isinstance(model.calibration, one))
    return {**plain, "calibration": {"kind": kind, **plain["calibration"]}}


def unpack_risk(plain: dict[str, Any], prefix: str, tensors: Tensors) -> RiskModel:
    """Read what :func:`pack_risk` wrote; bundles of before name no kind and hold Platt's map."""
    fields = dict(read_field(plain, "calibration", dict))
    kind = fields.pop("kind", "platt")
    if kind not in CALIBRATIONS:
        raise BundleError(f"{prefix}.calibration.kind", f"is {kind!r}; train the bundle again")
    calibration = unpack(CALIBRATIONS[kind], fields, f"{prefix}.calibration", tensors)
    return unpack(RiskModel, {**plain, "calibration": calibration}, prefix, tensors)


def pack_attempt(attempt: CertificateAttempt) -> dict[str, Any]:
    """Return an attempt as JSON: its certificate, or why there is none."""
    plain: dict[str, Any] = {
        "alpha": attempt.alpha,
        "self_consistency": attempt.self_consistency,
    }
    if attempt.slices is not None:
        plain["slices"] = list(attempt.slices)
    if attempt.observed:
        plain["observed"] = {name: asdict(seen) for name, seen in attempt.observed.items()}
    if isinstance(attempt.outcome, Certificate):
        return {**plain, "certificate": attempt.outcome.to_dict()}
    return {**plain, "none": asdict(attempt.outcome)}


def unpack_attempt(plain: Any) -> CertificateAttempt:
    """Read what :func:`pack_attempt` wrote."""
    outcome: Certificate | NoCertificate
    if not isinstance(plain, dict):
        raise BundleError("certificates", f"holds {plain!r}; certify the bundle again")
    alpha, mode = read_field(plain, "alpha", float), read_field(plain, "self_consistency", str)
    if mode not in CONSISTENCY_MODES:
        raise BundleError("self_consistency", f"{mode!r} is no mode; certify the bundle again")
    if "certificate" in plain:
        outcome = Certificate.from_dict(read_field(plain, "certificate", dict))
    else:
        later = {field.name: None for field in fields(NoCertificate) if field.default is None}
        none = {**later, **read_field(plain, "none", dict)}
        outcome = unpack(NoCertificate, none, "certificates", {})
    slices = None if plain.get("slices") is None else tuple(read_field(plain, "slices", list))
    observed = {
        name: unpack(Interval, seen, "observed", {})
        for name, seen in read_field({"observed": {}, **plain}, "observed", dict).items()
    }
    return CertificateAttempt(alpha, mode, outcome, slices, observed)


def read_field(section: Mapping[str, Any], name: str, kind: type[Part]) -> Part:
    """Return a section's field; BundleError when it is missing or of another type."""
    value = section.get(name)
    if not isinstance(value, kind):
        raise BundleError(name, f"is {value!r}, not a {kind.__name__}; train the bundle again")
    return value


def read_number(section: Mapping[str, Any], name: str) -> float | None:
    """Return a section's number, or None where it has none."""
    return None if section.get(name) is None else read_field(section, name, float)
