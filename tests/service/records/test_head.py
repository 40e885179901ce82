from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.records.errors import RecordsError
from service.records.head import SigningKey, is_signed


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"chain": "b"},
        {"sequence": 2},
        {"hash": "0" * 63 + "1"},
        {"kind": "retention"},
        {"created_us": 1},
        {"signature": "00" * 64},
        {"signature": "no hex"},
        {"key_id": "unknown"},
    ],
)
def test_a_head_holds_only_as_it_was_signed(change: dict[str, Any]) -> None:
    key = SigningKey.generate()
    head = replace(key.sign("a", 1, "0" * 64), **change)
    assert is_signed(head, {key.id: key.public}) == (not change)


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "records.pem"
    with ThreadPoolExecutor(4) as threads:
        keys = list(threads.map(SigningKey.load_or_create, [path] * 4))
    assert len({key.id for key in keys}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_no_such_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("not a key")
    with pytest.raises(RecordsError, match=r"key\.pem"):
        SigningKey.load_or_create(path)
    path.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    with pytest.raises(RecordsError, match="Ed25519"):
        SigningKey.load_or_create(path)
