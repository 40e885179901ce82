"""A signed head: someone who held the key saw a chain end here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy import RowMapping

from service.records.canonical import canonical_json, microseconds
from service.records.errors import RecordsError

HeadKind = Literal["head", "retention"]


@dataclass(frozen=True, slots=True)
class Head:
    """The signed end of a chain, or of the part of it that retention deleted.

    Args:
        chain: which chain.
        sequence: number of its last row; 0 stands before the first.
        hash: that row's.
        kind: ``retention`` says that the rows up to here were deleted on purpose.
        created_us: microseconds since 1970.
        key_id: which key signed.
        signature: Ed25519 over the other fields, hexadecimal.
    """

    chain: str
    sequence: int
    hash: str
    kind: HeadKind
    created_us: int
    key_id: str
    signature: str

    @classmethod
    def of_row(cls, row: RowMapping) -> Head:
        """The head that a row of ``tails`` or ``heads`` holds."""
        return cls(**{name: row[name] for name in cls.__slots__})


class SigningKey:
    """An Ed25519 key (RFC 8032) that signs heads. Whoever verifies needs the public half only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key()
        self.id = key_id(self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key, in memory only."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """The key in a PEM file; where there is none, a new one that only its owner can read.

        Raises:
            RecordsError: the file cannot be read or written, or holds another kind of key.
        """
        try:
            _create(path)
            private = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise RecordsError(f"signing key {path}: {error}; name a readable PEM file") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise RecordsError(f"signing key {path} is not an Ed25519 key; make one of that kind")
        return cls(private)

    def sign(self, chain: str, sequence: int, row_hash: str, kind: HeadKind = "head") -> Head:
        """Sign the end of a chain, now."""
        now = microseconds(datetime.now(UTC))
        message = _message(chain, sequence, row_hash, kind, now, self.id)
        signature = self._private.sign(message).hex()
        return Head(chain, sequence, row_hash, kind, now, self.id, signature)


def key_id(key: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the public key's SHA-256."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def is_signed(head: Head, keys: Mapping[str, Ed25519PublicKey]) -> bool:
    """Whether one of the keys (by id) signed exactly this head."""
    key = keys.get(head.key_id)
    if key is None:
        return False
    message = _message(
        head.chain, head.sequence, head.hash, head.kind, head.created_us, head.key_id
    )
    try:
        key.verify(bytes.fromhex(head.signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _message(*parts: str | int) -> bytes:
    return canonical_json(["vlm-gate head 1", *parts]).encode()


def _create(path: Path) -> None:
    """Write a new key, whole or not at all, unless there is one: replicas may start at once."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was faster: its key counts
    finally:
        draft.unlink()
