"""Bundles whose hashes are right and whose content is not, as a bad hand makes them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.model.folder import MANIFEST, SUMS, TENSORS, read_bundle, write_bundle
from probes.types import CONSISTENCY_MODES, Missing, Query
from service.gate.policy_file import read_policy
from tests.fuzz.folder import folder
from tests.fuzz.words import has_words

SHIPPED = Path(__file__).parents[2] / "testbed" / "bundles" / "llava"
PARTS = (MANIFEST, MANIFEST, TENSORS, SUMS, "golden/0.png")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**400, 1e308, -0.5, 0.5, math.nan, math.inf, "", "a", "\0",
    "\ud800", "auto", "2026-01-01", "9999-12-31T23:59:59+00:00", [], [[]], [1], ["a"], {}, {"a": 1},
    [None], "hidden_state_probe", 2**63, -(2**64), 1e-320, "never",
)  # fmt: skip
"""What a value of a manifest is replaced by."""
GONE = len(VALUES)
"""Or it is left out."""


@cache
def small() -> Bundle:
    """The shipped bundle with one small golden image and short lists: quick to read."""
    whole = read_bundle(SHIPPED)
    first = whole.golden[0]
    query = Query(np.zeros((4, 4, 3), dtype=np.uint8), first.query.question, 16)
    golden = (replace(first, query=query),)
    training = {"risk_reference": whole.training["risk_reference"]}
    bare = replace(whole, golden=golden, attempts=(), alpha=None, training=training)
    bare = write_bundle(bare, folder() / "bare")
    attempts = tuple(
        replace(one, outcome=Certificate.sealed(**one.outcome.to_dict() | {"bundle": bare.id}))
        for one in whole.attempts
        if isinstance(one.outcome, Certificate)
    )
    return write_bundle(replace(bare, attempts=attempts, alpha=whole.alpha), folder() / "small")


@cache
def files() -> dict[str, bytes]:
    """The files of the small bundle."""
    small()
    root = folder() / "small"
    return {name: (root / name).read_bytes() for name in (MANIFEST, TENSORS, SUMS, "golden/0.png")}


def read_bundle_bytes(data: bytes) -> None:
    """Which part (one byte), and edits of the manifest or that part's bytes."""
    which = data[0] % len(PARTS) if data else 0
    read_changed(PARTS[which], edited(data[1:]) if which == 0 else data[1:])


def read_changed(part: str, content: bytes) -> None:
    """The small bundle with another content of one file, and hashes that fit."""
    changed = {**files(), part: content}
    if part != SUMS:
        hashes = {n: hashlib.sha256(b).hexdigest() for n, b in changed.items() if n != SUMS}
        changed[SUMS] = "".join(f"{hashes[n]}  {n}\n" for n in sorted(hashes)).encode()
    root = folder() / "read"
    (root / "golden").mkdir(parents=True, exist_ok=True)
    for name, content in changed.items():
        (root / name).write_bytes(content)
    try:
        bundle = read_bundle(root)
    except BundleError as error:
        has_words(error)
        return
    use(bundle)


def use(bundle: Bundle) -> None:
    """What serving asks of a bundle before and while it answers."""
    assert bundle.readout.layers
    for mode in CONSISTENCY_MODES:
        found = bundle.certificate_for(
            bundle.policy,
            mode,
            bundle.generation.samples,
            shortened=False,
            now=datetime.now(UTC),
            slice=bundle.slice_of({"line": "3"}),
        )
        assert isinstance(found, Missing) or found.threshold >= 0
        bundle.observed_slices(mode)


def edited(edits: bytes) -> bytes:
    """The manifest with values replaced: two bytes name the place, one the value."""
    manifest = json.loads(files()[MANIFEST])
    for at in range(0, min(len(edits) - 2, 24), 3):
        places = list(_places(manifest))
        parent, name = places[int.from_bytes(edits[at : at + 2]) % len(places)]
        choice = edits[at + 2] % (GONE + 1)
        if choice == GONE:
            del parent[name]
        else:
            parent[name] = deepcopy(VALUES[choice])
        if not isinstance(manifest, dict) or not manifest:
            break
    try:
        return sealed(manifest)
    except (ArithmeticError, BundleError, LookupError, TypeError, ValueError):
        return json.dumps(manifest).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value: (the object or list, the name or number)."""
    named = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in list(named):
        yield value, name
        if isinstance(part, dict | list):
            yield from _places(part)


def sealed(manifest: Any) -> bytes:
    """With the id, the certificates' ids and their seals made right."""
    content = json.dumps(manifest["content"], indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(content.encode() + files()[TENSORS]).hexdigest()
    manifest["id"] = f"b-{digest[:12]}"
    for attempt in manifest["certificates"]["attempts"]:
        if isinstance(attempt, dict) and isinstance(attempt.get("certificate"), dict):
            fields = attempt["certificate"] | {"bundle": manifest["id"]}
            attempt["certificate"] = Certificate.sealed(**fields).to_dict()
    return json.dumps(manifest).encode()


def bundle_seeds() -> list[bytes]:
    """Single edits, and each part as it is."""
    parts = [bytes([number]) + files()[name] for number, name in enumerate(PARTS) if number]
    return [bytes([0, 0, at, at * 7 % 256]) for at in range(0, 256, 16)] + [b"\0", *parts]


def read_policy_bytes(data: bytes) -> None:
    """A TOML file of a policy, for the small bundle."""
    path = folder() / "policy.toml"
    path.write_bytes(data)
    try:
        policy = read_policy(path, small())
    except BundleError as error:
        has_words(error)
        return
    assert policy.mode in ("certified", "manual")


def policy_seeds() -> list[bytes]:
    """Policies of each kind."""
    return [
        b'policy = "certified"\nself_consistency = "auto"\nsmall_slices = "pooled"',
        b'policy = "manual"\naccept_below = 0.1\nreject_above = 0.9\nrequired = ["domain"]',
        b'policy = "manual"\naccept_below = nan\nreject_above = 1e400',
        b'policy = "manual"\nrequired = [[], 2026-01-01, "\\u0000"]\n[a.b]\nc = {}',
    ]
