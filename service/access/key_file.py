"""API keys: made once, shown once, kept only as hashes in one file.

A key reads ``vg_<id>_<secret>``. The id (12 hexadecimal digits) is no secret and names the key in
logs; the secret holds 256 random bits, so one SHA-256 protects it: no dictionary can guess it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import stat
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from probes.atomic_write import replacing

Scope = Literal["answer", "review", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KEY = re.compile(r"vg_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
FORMAT = 1
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


class KeyFileError(Exception):
    """The file cannot be used. The message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the file.

    Args:
        id: names the key; no secret.
        name: whose it is, in the operator's words.
        scopes: what it may do; none implies another.
        sha256: of the whole key, hexadecimal.
        created, expires, revoked: ISO times in UTC, or None.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created: str
    expires: str | None = None
    revoked: str | None = None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """What the key is good for at ``now``."""
        if self.revoked is not None:
            return "revoked"
        ended = self.expires is not None and datetime.fromisoformat(self.expires) <= now
        return "expired" if ended else "active"


class KeyRing:
    """The keys of a file; finds the one that a caller sends."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)
        self._by_id = {key.id: key for key in keys}

    def find(self, sent: str, now: datetime) -> ApiKey | None:
        """The active key that was sent, or None. An unknown id takes as long as a known one."""
        shaped = KEY.fullmatch(sent)
        key = self._by_id.get(shaped.group(1)) if shaped else None
        digest = hashlib.sha256(sent.encode()).hexdigest()
        same = hmac.compare_digest(digest, _NOBODY if key is None else key.sha256)
        return key if key is not None and same and key.state(now) == "active" else None

    def owner(self, key: ApiKey) -> str:
        """Whose key it is: the id of the first key in the file, revoked or not, with its name."""
        name = _folded(key.name)
        return next((one.id for one in self.keys if name and _folded(one.name) == name), key.id)

    def active(self, now: datetime) -> int:
        """How many keys may be used."""
        return sum(key.state(now) == "active" for key in self.keys)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def new_key(
    name: str, scopes: Sequence[Scope], now: datetime, expires: datetime | None = None
) -> tuple[str, ApiKey]:
    """Make a key. Returns what its owner gets, and what the file keeps."""
    identity = secrets.token_hex(6)
    whole = f"vg_{identity}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(whole.encode()).hexdigest()
    until = None if expires is None else expires.isoformat()
    return whole, ApiKey(identity, name, tuple(scopes), digest, now.isoformat(), until)


def revoke(keys: Sequence[ApiKey], identity: str, now: datetime) -> tuple[ApiKey, ...]:
    """The keys with one of them revoked. Raises KeyFileError when there is none of this id."""
    if all(key.id != identity for key in keys):
        raise KeyFileError(f"there is no key {identity}; vlm-gate keys list shows the ids")
    return tuple(
        replace(key, revoked=now.isoformat()) if key.id == identity and not key.revoked else key
        for key in keys
    )


def load_keys(path: Path) -> KeyRing:
    """Read the file. Raises KeyFileError."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH:
            raise KeyFileError(f"{path}: everybody may write it; chmod o-w it")
        held = json.loads(path.read_bytes())
        if held["format"] != FORMAT:
            raise KeyFileError(f"{path}: format {held['format']!r} is not read; {FORMAT} is")
        ring = KeyRing([_entry(entry) for entry in held["keys"]])
    except OSError as error:
        raise KeyFileError(
            f"{path}: cannot be read ({error.strerror}); make it with vlm-gate keys create"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyFileError(
            f"{path}: is no file of keys ({type(error).__name__}); restore it, or make a new one "
            "with vlm-gate keys create"
        ) from error
    if len({key.id for key in ring.keys}) < len(ring.keys):
        raise KeyFileError(f"{path}: two keys share an id; remove one")
    return ring


def _entry(entry: Mapping[str, Any]) -> ApiKey:
    key = ApiKey(**{**entry, "scopes": tuple(entry["scopes"])})
    for moment in (key.created, key.expires, key.revoked):
        if moment is not None and datetime.fromisoformat(moment).tzinfo is None:
            raise ValueError("a time without its zone")
    if not re.fullmatch("[0-9a-f]{64}", key.sha256) or not set(key.scopes) <= set(SCOPES):
        raise ValueError("no hash, or an unknown scope")
    return key


def save_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file in one step; its owner alone may read a new one."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    text = json.dumps({"format": FORMAT, "keys": [asdict(key) for key in keys]}, indent=2)
    try:
        with replacing(path) as draft:
            draft.touch(mode=0o600, exist_ok=False)
            draft.chmod(mode)
            draft.write_text(text + "\n")
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written ({error.strerror})") from error


def utc_now() -> datetime:
    """Now, with its zone."""
    return datetime.now(UTC)
