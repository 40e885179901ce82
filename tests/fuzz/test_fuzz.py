"""The short form of ``make fuzz``: seeds, what was found before, and some damage to each.

``tests/fuzz/found/<reader>/`` holds inputs that once were findings.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.model.folder import MANIFEST, read_bundle
from tests.fuzz import bundles, readers, wire
from tests.fuzz.damage import damage
from tests.fuzz.readers import READERS

FOUND = Path(__file__).parent / "found"
DAMAGED = {"bundle": 20, "policy": 60, "settings": 60}
"""Inputs made anew, of readers that take longer; 200 of the others."""
LARGEST = 20_000
"""Bytes of a seed that is damaged here: large ones take their time, and atheris has it."""


@pytest.mark.parametrize("name", READERS)
def test_any_bytes_are_read_or_refused(name):
    reader, choose = READERS[name], random.Random(name)
    seeds = reader.seeds()
    small = [one for one in seeds if len(one) <= LARGEST]
    for seed in choose.sample(seeds, min(60, len(seeds))):
        reader.read(seed)
    for _ in range(DAMAGED.get(name, 200)):
        reader.read(damage(choose.choice(small), small, choose))


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_what_was_found_once(path):
    READERS[path.parent.name].read(path.read_bytes())


CERTIFICATE: dict[str, object] = {
    "threshold": "a", "alpha": None, "delta": [], "n": 1.5, "k": True, "samples": "10",
    "self_consistency": "sometimes", "slices": "line", "groups": {}, "created": "yesterday",
    "expires": "2026-01-01T00:00:00", "model": 1, "unit": None,
}  # fmt: skip


@pytest.mark.parametrize("name", CERTIFICATE)
def test_a_certificate_of_other_types_is_refused_by_name_though_its_seal_fits(name):
    (good, *_) = bundles.small().certificates.values()
    with pytest.raises(BundleError) as refused:
        Certificate.sealed(**good.to_dict() | {name: CERTIFICATE[name]})
    assert refused.value.field == f"certificate.{name}"


@pytest.mark.parametrize("part", ["data", "model", "stage_one", "golden", "attention_layers"])
@pytest.mark.parametrize("value", ["\ud800", [["a"]], {"missing": []}, 10**400], ids=repr)
def test_an_odd_value_in_a_manifest_is_refused(part, value):
    manifest = json.loads(bundles.files()[MANIFEST])
    manifest["content"][part] = value
    try:
        manifest = json.loads(bundles.sealed(manifest))
    except UnicodeEncodeError:
        assert value == "\ud800"
    with pytest.raises(BundleError):
        _load(json.dumps(manifest).encode())


def _load(manifest: bytes) -> Bundle:
    bundles.read_changed(MANIFEST, manifest)  # ends without an error where it is refused in words
    return read_bundle(bundles.folder() / "read")


def test_what_a_reader_does_not_document_is_a_finding(monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("no word of it")

    monkeypatch.setattr(readers, "decode", broken)
    with pytest.raises(KeyError):
        READERS["picture"].read(b"any")


def test_damaged_requests_leave_the_service_as_it_was(tmp_path):
    told = wire.attack(60, seed=3, out=tmp_path, most=2 * wire.ROUND)
    assert told.findings == []
    assert told.requests == 2 * wire.ROUND
    assert {400, 422} <= set(told.statuses)
