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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from probes.errors import NOT_UNDERSTOOD, BundleError
from probes.model.bundle import NO_QUESTION_SIDE, Bundle, Golden
from probes.model.certificate import Certificate
from probes.model.check import check_bundle
from probes.model.parts import (
    Tensors,
    pack,
    pack_attempt,
    pack_risk,
    read_field,
    read_number,
    unpack,
    unpack_attempt,
    unpack_risk,
)
from probes.model.policy import Policy
from probes.model.probe import LinearProbe
from probes.model.slicing import Slicing
from probes.signals.domain import DomainModel
from probes.signals.question import QuestionModel
from probes.signals.question_kind import KindModel
from probes.types import (
    GenerationSettings,
    Missing,
    ModelIdentity,
    Query,
    QuestionMode,
)

FORMAT = 3
READABLE = (1, 2, 3)
"""Formats 1 and 2 have no question side; 1 has Platt's calibration alone and no slices."""
LATER_POLICY: Mapping[str, Any] = {"small_slices": "pooled"}
"""Fields of a policy that bundles made before have not, and what they mean there."""
SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"


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
            "attempts": [pack_attempt(attempt) for attempt in bundle.attempts],
        },
    }
    files[MANIFEST] = _canonical(manifest)
    sums = _sums({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    (folder / "golden").mkdir(parents=True)
    for name, data in {**files, SUMS: sums.encode()}.items():
        (folder / name).write_bytes(data)
    return read_bundle(folder)


def identify(bundle: Bundle) -> str:
    """Return the id that the bundle gets when it is written."""
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
    """Return all files but the manifest, and the part of the manifest that the id hashes."""
    tensors: Tensors = {}
    content: dict[str, Any] = {
        "model": asdict(bundle.model),
        "generation": asdict(bundle.generation),
        "attention_layers": list(bundle.attention_layers),
        "probe": pack(bundle.probe, "probe", tensors),
        "stage_one": pack_risk(bundle.stage_one, "stage_one", tensors),
        "stage_two": {"missing": bundle.stage_two.reason}
        if isinstance(bundle.stage_two, Missing)
        else pack_risk(bundle.stage_two, "stage_two", tensors),
        "domain": pack(bundle.domain, "domain", tensors),
        "policy": _policy_to_json(bundle.policy),
        "data": bundle.data,
        "training": dict(bundle.training),
        "golden": [],
    }
    if bundle.kinds is not None:
        content["kinds"] = pack(bundle.kinds, "kinds", tensors)
    if isinstance(bundle.questions, QuestionModel):
        content["questions"] = pack(bundle.questions, "questions", tensors)
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
    """Return the text of ``SHA256SUMS``, sorted by name, as ``sha256sum`` writes it."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _assemble(manifest: dict[str, Any], tensors: Tensors, files: Mapping[str, bytes]) -> Bundle:
    content = read_field(manifest, "content", dict)
    identifier = read_field(manifest, "id", str)
    expected = "b-" + hashlib.sha256(_canonical(content) + files[TENSORS]).hexdigest()[:12]
    if identifier != expected:
        raise BundleError("id", f"is {identifier}, but the content's is {expected}")
    model = unpack(ModelIdentity, read_field(content, "model", dict), "model", tensors)
    probe = unpack(LinearProbe, read_field(content, "probe", dict), "probe", tensors)
    certificates = read_field(manifest, "certificates", dict)
    attempts = tuple(unpack_attempt(one) for one in read_field(certificates, "attempts", list))
    for attempt in attempts:
        if isinstance(attempt.outcome, Certificate) and attempt.outcome.bundle != identifier:
            raise BundleError("certificates", f"{attempt.outcome.id} is for another bundle")
    stage_two = read_field(content, "stage_two", dict)
    bundle = Bundle(
        id=identifier,
        model=model,
        generation=unpack(
            GenerationSettings, read_field(content, "generation", dict), "generation", tensors
        ),
        attention_layers=tuple(read_field(content, "attention_layers", list)),
        probe=probe,
        stage_one=unpack_risk(read_field(content, "stage_one", dict), "stage_one", tensors),
        stage_two=Missing(stage_two["missing"])
        if "missing" in stage_two
        else unpack_risk(stage_two, "stage_two", tensors),
        domain=unpack(DomainModel, read_field(content, "domain", dict), "domain", tensors),
        policy=unpack(
            Policy, {**LATER_POLICY, **read_field(content, "policy", dict)}, "policy", tensors
        ),
        alpha=read_number(certificates, "alpha"),
        loosened_from=read_number(certificates, "loosened_from"),
        attempts=attempts,
        golden=tuple(
            _golden(index, entry, tensors, files, probe)
            for index, entry in enumerate(read_field(content, "golden", list))
        ),
        questions=unpack(
            QuestionModel, read_field(content, "questions", dict), "questions", tensors
        )
        if "questions" in content
        else NO_QUESTION_SIDE,
        data=read_field(content, "data", str),
        training=read_field(content, "training", dict),
        slicing=None
        if certificates.get("slicing") is None
        else unpack(Slicing, read_field(certificates, "slicing", dict), "slicing", {}),
        kinds=unpack(KindModel, read_field(content, "kinds", dict), "kinds", tensors)
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
    name = read_field(entry, "image", str)
    if name not in files or where not in tensors:
        raise BundleError(where, "its image or readout is missing; copy the bundle again")
    try:
        with Image.open(io.BytesIO(files[name]), formats=["PNG"]) as opened:
            image = np.asarray(opened.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise BundleError(name, f"is not a PNG image ({error})") from error
    if hashlib.sha256(image.tobytes()).hexdigest() != entry.get("pixels_sha256"):
        raise BundleError(name, "decodes to other pixels than were recorded")
    query = Query(image, read_field(entry, "question", str), read_field(entry, "max_tokens", int))
    readouts = {(probe.layer, probe.position): tensors[where]}
    return Golden(query, read_field(entry, "answer", str), readouts)


def _policy_to_json(policy: Policy) -> dict[str, Any]:
    """Return plain JSON without later fields at their default, so that older ids stay the same."""
    return {
        name: value
        for name, value in asdict(policy).items()
        if name not in LATER_POLICY or value != LATER_POLICY[name]
    }


def _canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def with_questions(bundle: Bundle, mode: QuestionMode) -> Bundle:
    """Choose which questions are inside the domain; the result is another policy, uncertified.

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
