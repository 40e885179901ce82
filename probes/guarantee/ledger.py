"""The ledger of claims: everything tested on the same data spends from one delta.

Of many certificates tested on one set of data, the best one holds less often than it says. So
the first claim may spend 80 % of delta and each later one half of what is left: 10 %, 5 %, ...;
all of them together at most delta (the union bound, as alpha-spending has it). A claim that was
made before gets the share that it had.

The same data are told by their images and their model, never by a split, a seed or a question:
another seed splits the same images anew, and asking otherwise until a certificate comes out is a
try as well. A few images more or less are the same data too: what is compared is a sketch, the
:data:`ANCHORS` images whose hashes are smallest (Broder 1997), of which two sets that share a tenth
of their images have one in common in 97 of 100 cases. Runs that nobody can see any more (both
copies of the ledger deleted, another machine) are not counted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probes.errors import StoreError

LEDGER = "tries.jsonl"
ANCHORS = 32
FIRST_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Try:
    """A claim that was tested.

    Args:
        claim: what a certificate would say, and of which data (plain JSON).
        share: the part of delta that it may spend, 0 to 1.
        data: anchors of the data, see :func:`anchors`.
        at: ISO 8601 with offset.
    """

    claim: Mapping[str, Any]
    share: float
    data: tuple[str, ...]
    at: str


class Ledger:
    """The tries on one set of data, kept in several folders; their union counts."""

    def __init__(
        self,
        data: str | Collection[str],
        folders: Sequence[Path],
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            data: :func:`anchors` of the data, or one name, such as a bundle's lineage. Tries that
                have one of them in common are tries on the same data.
            folders: the run's and the person's own. One that can be written is enough.
            warn: called with a message about a folder that cannot be written.
        """
        self._data = (data,) if isinstance(data, str) else tuple(data)
        self._folders = tuple(dict.fromkeys(folders))
        self._warn = warn

    def share(self, claim: Mapping[str, Any]) -> float:
        """Return the part of delta that this claim may spend, after writing the claim down.

        Raises StoreError when no folder can be written or a ledger cannot be read.
        """
        with ExitStack() as stack:
            paths = [
                path
                for folder in sorted(self._folders)  # one order, so that two never wait in a ring
                if (path := stack.enter_context(self._locked(folder))) is not None
            ]
            if not paths:
                told = " or ".join(str(folder) for folder in self._folders)
                raise StoreError(
                    f"{told}: cannot be written, so tries cannot be counted; "
                    "set VLM_GATE_TRIES_FOLDER to a folder that can"
                )
            known = self._read()
            if _canonical(claim) not in known:
                known[_canonical(claim)] = Try(
                    json.loads(_canonical(claim)),
                    _share(len(known)),
                    self._data,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                )
            for path in paths:
                self._add_missing(path, known)
            return known[_canonical(claim)].share

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every try on this data that the folders hold, first to last."""
        return tuple(self._read().values())

    def _read(self) -> dict[str, Try]:
        """Read all tries by claim; where two folders differ, the smaller share counts."""
        found: dict[str, Try] = {}
        for folder in self._folders:
            for name, one in self._in(folder / LEDGER):
                found[name] = min(found.get(name, one), one, key=lambda other: other.share)
        return dict(sorted(found.items(), key=lambda item: (item[1].at, -item[1].share)))

    def _in(self, path: Path) -> Iterator[tuple[str, Try]]:
        for one in _tries(path):
            if not set(one.data).isdisjoint(self._data):
                yield _canonical(one.claim), one

    def _add_missing(self, path: Path, known: Mapping[str, Try]) -> None:
        there = {name for name, _ in self._in(path)}
        lines = [json.dumps(asdict(one)) for name, one in known.items() if name not in there]
        if lines and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            lines.insert(0, "")  # someone edited the last line
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[Path | None]:
        """Lock the folder's ledger for this block; None where it cannot be written."""
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                file = stack.enter_context((folder / LEDGER).open("a"))
                fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file
            except OSError as error:
                self._warn(f"tries are not counted in {folder}: {error.strerror}")
                yield None
            else:
                yield folder / LEDGER


def told(tries: Sequence[Try]) -> str:
    """Say what was spent, and what cannot be known."""
    spent = sum(one.share for one in tries)
    return (
        f"{len(tries)} claims were tested on these images; together they may spend {spent:.1%} of "
        "delta. Tries whose ledgers were deleted, or made on another machine, cannot be seen."
    )


def anchors(images: Iterable[str], model: str) -> tuple[str, ...]:
    """Return a sketch of a run's images, by which its data are recognised later.

    Args:
        images: content hash of each answer's image, in any order; repeats do not matter.
        model: revision of the model that answered.
    """
    names = {hashlib.sha256(f"{model}:{image}".encode()).hexdigest()[:16] for image in images}
    return tuple(sorted(names)[:ANCHORS])


def _share(before: int) -> float:
    """Return the share of the claim after so many others: 0.8, 0.1, 0.05, ..."""
    return FIRST_SHARE if before == 0 else (1 - FIRST_SHARE) / 2**before


def _canonical(claim: Mapping[str, Any]) -> str:
    return json.dumps(claim, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _tries(path: Path) -> Iterator[Try]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            plain = json.loads(line)
            yield Try(**{**plain, "data": tuple(plain["data"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{path}: line {number} cannot be read ({error}); mend or remove that line"
            ) from error
