"""The secret that the audits are drawn with: the same in all replicas."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from service.records.errors import RecordsError
from service.settings import PREFIX

LEAST_BYTES = 16


def load_or_create_secret(path: Path) -> bytes:
    """The file's bytes; where there is no file, a new one that only its owner can read.

    Raises RecordsError: it cannot be read or written, or is too short.
    """
    try:
        if not path.exists():
            draft = path.with_name(f".{path.name}.{uuid4().hex}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was faster: its secret counts
                os.link(draft, path)
            draft.unlink()
        secret = path.read_bytes()
    except OSError as error:
        raise RecordsError(f"{PREFIX}AUDIT_SECRET_FILE: {error}; name a readable file") from error
    if len(secret) < LEAST_BYTES:
        raise RecordsError(
            f"{PREFIX}AUDIT_SECRET_FILE: {path} holds {len(secret)} bytes; "
            f"give at least {LEAST_BYTES}"
        )
    return secret
