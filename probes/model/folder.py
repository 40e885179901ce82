"""A bundle on disk: JSON, safetensors and PNG, each under its SHA-256, and nothing else.

``SHA256SUMS`` (readable by ``sha256sum -c``) covers every other file. A file that it does not
name, a hash that differs, a format that is unknown or a field that is missing refuses the whole
bundle.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from probes.errors import NOT_UNDERSTOOD, BundleError
from probes.model.bundle import NO_QUESTION_SIDE, Bundle, CertificateAttempt, Golden
from probes.model.calibration import CalibrationMap, IsotonicMap, PlattMap, VennAbersMap
from probes.model.certificate import Certificate, NoCertificate
from probes.model.check import check_bundle
from probes.model.policy import Policy
from probes.model.probe import LinearProbe
from probes.model.risk import RiskModel
from probes.model.slicing import Slicing
from probes.model.typed import fits
from probes.signals.domain import DomainModel
from probes.signals.question import QuestionMode, QuestionModel
from probes.signals.question_kind import KindModel
from probes.types import (
    CONSISTENCY_MODES,
    GenerationSettings,
    Interval,
    Missing,
    ModelIdentity,
    Query,
)

FORMAT = 3
READABLE = (1, 2, 3)
"""Formats 1 and 2 have no question side; 1 has Platt's calibration alone and no slices."""
CALIBRATIONS: Mapping[str, type[CalibrationMap]] = {
    "platt": PlattMap,
    "isotonic": IsotonicMap,
    "venn_abers": VennAbersMap,
}
LATER_POLICY: Mapping[str, Any] = {"small_slices": "pooled"}
"""Fields of a policy that bundles made before have not, and what they mean there."""
SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"


Part = TypeVar("Part")
Tensors = dict[str, NDArray[Any]]


def write_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Write a bundle to a folder that does not exist yet, and load it back."""
    if folder.exists():
        raise BundleError(str(folder), "exists already; every step writes a new folder")
    files, content = _content(bundle)
    identifier = _identifier(content, files[TENSORS])
    for attempt in bundle.attempts:
        if isinstance(attempt.outcome, Certificate) and attempt.outcome.bundle != identifier:
            raise BundleError(
                "certificates",
                f"certificate {attempt.outcome.id} is for {attempt.outcome.bundle}, "
                f"but this bundle is {identifier}; certify it again",
            )
    manifest = {
        "format": FORMAT,
        "id": identifier,
        "content": content,
        "certificates": {
            "alpha": bundle.alpha,
            "slicing": None if bundle.slicing is None else asdict(bundle.slicing),
            **({} if bundle.loosened_from is None else {"loosened_from": bundle.loosened_from}),
            "attempts": [_attempt_to_json(attempt) for attempt in bundle.attempts],
        },
    }
    files[MANIFEST] = _canonical(manifest)
    sums = _sums({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    (folder / "golden").mkdir(parents=True)
    for name, data in {**files, SUMS: sums.encode()}.items():
        (folder / name).write_bytes(data)
    return read_bundle(folder)


def identify(bundle: Bundle) -> str:
    """The id that the bundle gets when it is written."""
    files, content = _content(bundle)
    return _identifier(content, files[TENSORS])


def _identifier(content: Mapping[str, Any], tensors: bytes) -> str:
    return "b-" + hashlib.sha256(_canonical(content) + tensors).hexdigest()[:12]


def read_bundle(folder: Path) -> Bundle:
    """Load a bundle. Raises BundleError naming the field or file that is wrong."""
    files = _verified_files(folder)
    try:
        manifest = json.loads(files[MANIFEST])
    except ValueError as error:
        raise BundleError(MANIFEST, f"is not JSON ({error}); train the bundle again") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version not in READABLE:
        readable = " and ".join((", ".join(map(str, READABLE[:-1])), str(READABLE[-1])))
        raise BundleError(
            "format", f"is {version!r}, this version reads {readable}; train it again"
        )
    try:
        tensors: Tensors = load_tensors(files[TENSORS])
    except SafetensorError as error:
        raise BundleError(TENSORS, f"is not a safetensors file ({error})") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BundleError(f"{TENSORS}: {name}", "holds a value that is not finite")
    try:
        return _assemble(manifest, tensors, files)
    except NOT_UNDERSTOOD as error:
        raise BundleError(
            MANIFEST, f"holds what no bundle does ({error}); train the bundle again"
        ) from error


def _content(bundle: Bundle) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files but the manifest, and the part of the manifest that the id is a hash of."""
    tensors: Tensors = {}
    content: dict[str, Any] = {
        "model": asdict(bundle.model),
        "generation": asdict(bundle.generation),
        "attention_layers": list(bundle.attention_layers),
        "probe": _pack(bundle.probe, "probe", tensors),
        "stage_one": _pack_risk(bundle.stage_one, "stage_one", tensors),
        "stage_two": {"missing": bundle.stage_two.reason}
        if isinstance(bundle.stage_two, Missing)
        else _pack_risk(bundle.stage_two, "stage_two", tensors),
        "domain": _pack(bundle.domain, "domain", tensors),
        "policy": _policy_to_json(bundle.policy),
        "data": bundle.data,
        "training": dict(bundle.training),
        "golden": [],
    }
    if bundle.kinds is not None:
        content["kinds"] = _pack(bundle.kinds, "kinds", tensors)
    if isinstance(bundle.questions, QuestionModel):
        content["questions"] = _pack(bundle.questions, "questions", tensors)
    files: dict[str, bytes] = {}
    place = (bundle.probe.layer, bundle.probe.position)
    for index, golden in enumerate(bundle.golden):
        name = f"golden/{index}.png"
        buffer = io.BytesIO()
        Image.fromarray(golden.query.image).save(buffer, "PNG", optimize=True)
        files[name] = buffer.getvalue()
        tensors[f"golden.{index}"] = np.asarray(golden.readouts[place], dtype=np.float64)
        content["golden"].append(
            {
                "image": name,
                "pixels_sha256": hashlib.sha256(golden.query.image.tobytes()).hexdigest(),
                "question": golden.query.question,
                "max_tokens": golden.query.max_tokens,
                "answer": golden.answer,
            }
        )
    files[TENSORS] = save_tensors(tensors)
    return files, content


def _verified_files(folder: Path) -> dict[str, bytes]:
    if not (folder / SUMS).is_file():
        raise BundleError(str(folder), f"is not a bundle: it has no {SUMS}")
    try:
        text = (folder / SUMS).read_bytes().decode("ascii")
        pairs = (line.split("  ") for line in text.removesuffix("\n").split("\n"))
        expected = {name: digest for digest, name in pairs}
    except ValueError as error:
        raise BundleError(SUMS, "is damaged; copy the bundle again") from error
    if text != _sums(expected):
        raise BundleError(SUMS, "is damaged; copy the bundle again")
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    } - {SUMS}
    for name in sorted(present - set(expected)):
        raise BundleError(name, "does not belong to the bundle; remove it")
    files: dict[str, bytes] = {}
    for name, digest in expected.items():
        allowed = name in (MANIFEST, TENSORS) or name.startswith("golden/")
        if not allowed or name not in present or (folder / name).is_symlink():
            raise BundleError(name, f"is listed in {SUMS} but is not a file of a bundle here")
        files[name] = (folder / name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise BundleError(name, f"does not match its hash in {SUMS}; copy the bundle again")
    for name in (MANIFEST, TENSORS):
        if name not in files:
            raise BundleError(name, f"is missing from {SUMS}; copy the bundle again")
    return files


def _sums(digests: Mapping[str, str]) -> str:
    """The text of ``SHA256SUMS``: sorted by name, as ``sha256sum`` writes it."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _assemble(manifest: dict[str, Any], tensors: Tensors, files: Mapping[str, bytes]) -> Bundle:
    content = _field(manifest, "content", dict)
    identifier = _field(manifest, "id", str)
    expected = "b-" + hashlib.sha256(_canonical(content) + files[TENSORS]).hexdigest()[:12]
    if identifier != expected:
        raise BundleError("id", f"is {identifier}, but the content's is {expected}")
    model = _unpack(ModelIdentity, _field(content, "model", dict), "model", tensors)
    probe = _unpack(LinearProbe, _field(content, "probe", dict), "probe", tensors)
    certificates = _field(manifest, "certificates", dict)
    attempts = tuple(_attempt_from_json(one) for one in _field(certificates, "attempts", list))
    for attempt in attempts:
        if isinstance(attempt.outcome, Certificate) and attempt.outcome.bundle != identifier:
            raise BundleError("certificates", f"{attempt.outcome.id} is for another bundle")
    stage_two = _field(content, "stage_two", dict)
    bundle = Bundle(
        id=identifier,
        model=model,
        generation=_unpack(
            GenerationSettings, _field(content, "generation", dict), "generation", tensors
        ),
        attention_layers=tuple(_field(content, "attention_layers", list)),
        probe=probe,
        stage_one=_unpack_risk(_field(content, "stage_one", dict), "stage_one", tensors),
        stage_two=Missing(stage_two["missing"])
        if "missing" in stage_two
        else _unpack_risk(stage_two, "stage_two", tensors),
        domain=_unpack(DomainModel, _field(content, "domain", dict), "domain", tensors),
        policy=_unpack(
            Policy, {**LATER_POLICY, **_field(content, "policy", dict)}, "policy", tensors
        ),
        alpha=_number(certificates, "alpha"),
        loosened_from=_number(certificates, "loosened_from"),
        attempts=attempts,
        golden=tuple(
            _golden(index, entry, tensors, files, probe)
            for index, entry in enumerate(_field(content, "golden", list))
        ),
        questions=_unpack(QuestionModel, _field(content, "questions", dict), "questions", tensors)
        if "questions" in content
        else NO_QUESTION_SIDE,
        data=_field(content, "data", str),
        training=_field(content, "training", dict),
        slicing=None
        if certificates.get("slicing") is None
        else _unpack(Slicing, _field(certificates, "slicing", dict), "slicing", {}),
        kinds=_unpack(KindModel, _field(content, "kinds", dict), "kinds", tensors)
        if "kinds" in content
        else None,
    )
    check_bundle(bundle)
    return bundle


def _golden(
    index: int,
    entry: Any,
    tensors: Tensors,
    files: Mapping[str, bytes],
    probe: LinearProbe,
) -> Golden:
    where = f"golden.{index}"
    if not isinstance(entry, dict):
        raise BundleError(where, f"is {entry!r}; copy the bundle again")
    name = _field(entry, "image", str)
    if name not in files or where not in tensors:
        raise BundleError(where, "its image or readout is missing; copy the bundle again")
    try:
        with Image.open(io.BytesIO(files[name]), formats=["PNG"]) as opened:
            image = np.asarray(opened.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise BundleError(name, f"is not a PNG image ({error})") from error
    if hashlib.sha256(image.tobytes()).hexdigest() != entry.get("pixels_sha256"):
        raise BundleError(name, "decodes to other pixels than were recorded")
    query = Query(image, _field(entry, "question", str), _field(entry, "max_tokens", int))
    readouts = {(probe.layer, probe.position): tensors[where]}
    return Golden(query, _field(entry, "answer", str), readouts)


def _pack(part: Any, prefix: str, tensors: Tensors) -> dict[str, Any]:
    """A frozen dataclass as JSON; its arrays go to ``tensors`` under ``prefix.field``."""
    plain: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, np.ndarray):
            tensors[f"{prefix}.{field.name}"] = np.ascontiguousarray(value)
        elif is_dataclass(value):
            plain[field.name] = _pack(value, f"{prefix}.{field.name}", tensors)
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def _unpack(kind: type[Part], plain: dict[str, Any], prefix: str, tensors: Tensors) -> Part:
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


def _pack_risk(model: RiskModel, prefix: str, tensors: Tensors) -> dict[str, Any]:
    plain = _pack(model, prefix, tensors)
    (kind,) = (name for name, one in CALIBRATIONS.items() if isinstance(model.calibration, one))
    return {**plain, "calibration": {"kind": kind, **plain["calibration"]}}


def _unpack_risk(plain: dict[str, Any], prefix: str, tensors: Tensors) -> RiskModel:
    fields = dict(_field(plain, "calibration", dict))
    kind = fields.pop("kind", "platt")
    if kind not in CALIBRATIONS:
        raise BundleError(f"{prefix}.calibration.kind", f"is {kind!r}; train the bundle again")
    calibration = _unpack(CALIBRATIONS[kind], fields, f"{prefix}.calibration", tensors)
    return _unpack(RiskModel, {**plain, "calibration": calibration}, prefix, tensors)


def _attempt_to_json(attempt: CertificateAttempt) -> dict[str, Any]:
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


def _policy_to_json(policy: Policy) -> dict[str, Any]:
    """Fields that came later stand there only where they say something: ids stay as they were."""
    return {
        name: value
        for name, value in asdict(policy).items()
        if name not in LATER_POLICY or value != LATER_POLICY[name]
    }


def _number(section: Mapping[str, Any], name: str) -> float | None:
    return None if section.get(name) is None else _field(section, name, float)


def _attempt_from_json(plain: Any) -> CertificateAttempt:
    outcome: Certificate | NoCertificate
    if not isinstance(plain, dict):
        raise BundleError("certificates", f"holds {plain!r}; certify the bundle again")
    alpha, mode = _field(plain, "alpha", float), _field(plain, "self_consistency", str)
    if mode not in CONSISTENCY_MODES:
        raise BundleError("self_consistency", f"{mode!r} is no mode; certify the bundle again")
    if "certificate" in plain:
        outcome = Certificate.from_dict(_field(plain, "certificate", dict))
    else:
        later = {field.name: None for field in fields(NoCertificate) if field.default is None}
        none = {**later, **_field(plain, "none", dict)}
        outcome = _unpack(NoCertificate, none, "certificates", {})
    slices = None if plain.get("slices") is None else tuple(_field(plain, "slices", list))
    observed = {
        name: _unpack(Interval, seen, "observed", {})
        for name, seen in _field({"observed": {}, **plain}, "observed", dict).items()
    }
    return CertificateAttempt(alpha, mode, outcome, slices, observed)


def _field(section: Mapping[str, Any], name: str, kind: type[Part]) -> Part:
    value = section.get(name)
    if not isinstance(value, kind):
        raise BundleError(name, f"is {value!r}, not a {kind.__name__}; train the bundle again")
    return value


def _canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def with_questions(bundle: Bundle, mode: QuestionMode) -> Bundle:
    """Choose otherwise which questions are inside: another policy, so without certificates.

    Raises BundleError for a bundle that was trained without a question side.
    """
    if isinstance(bundle.questions, Missing):
        raise BundleError("questions", "has none to choose for; train the bundle again")
    if mode == bundle.questions.mode:
        return bundle
    other = replace(
        bundle,
        questions=replace(bundle.questions, mode=mode),
        alpha=None,
        attempts=(),
        slicing=None,
    )
    return replace(other, id=identify(other))
