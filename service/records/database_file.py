"""SQLite's file: still the one that was opened, or gone, replaced or emptied while it was used.

SQLite itself goes on writing to a file that has no name any more, and makes a new, empty one where
there is none: what it writes then is lost without an error.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from pathlib import Path

from service.records.errors import RecordsError

_Identity = tuple[int, int]
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DatabaseFile:
    """The file of a database and its write-ahead log, watched by their inodes.

    Never opened here: closing it would drop SQLite's own locks.

    Args:
        path: of the file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = Path(f"{path}-wal")
        self._opened: _Identity | None = None
        self._size = 0
        self._cut = ""
        self._logged: _Identity | None = None

    def remember(self) -> None:
        """Take the file as the right one, if none is yet. SQLite has just opened it."""
        found = _identity(self.path)
        if self._opened is None:
            self._opened = found
        self._logged = _identity(self._log)

    def forget_log(self) -> None:
        """All connections are closed: SQLite removes its log itself."""
        self._logged = None

    def check(self) -> None:
        """Raise sqlite3.OperationalError unless what was opened lies where it was."""
        if self._opened is None:
            return
        told = f"{self.path.name} "
        try:
            now = self.path.stat()
        except OSError as error:
            raise sqlite3.OperationalError(
                f"{told}was deleted or moved while in use ({error.strerror}); put the same file "
                "back, or restart to begin with an empty one"
            ) from error
        if (now.st_dev, now.st_ino) != self._opened:
            raise sqlite3.OperationalError(
                f"{told}was replaced by another file while in use; put the first one back, or "
                "restart to go on with this one"
            )
        if now.st_size < self._size:  # what SQLite writes later may fill it up again, with holes
            self._cut = (
                f"{told}was cut from {self._size} to {now.st_size} bytes while in use; restore it "
                "from a backup with the service stopped, or restart if that was a VACUUM"
            )
        if self._cut:
            raise sqlite3.OperationalError(self._cut)
        self._size = now.st_size
        if self._logged is not None and _identity(self._log) != self._logged:
            raise sqlite3.OperationalError(f"{self._log.name} was deleted or moved while in use")

    @property
    def there(self) -> bool:
        """Whether `check` finds nothing."""
        try:
            self.check()
        except sqlite3.OperationalError:
            return False
        return True

    def check_folder(self) -> None:
        """Raise RecordsError where SQLite could never write: it makes files beside this one.

        A full disk is none of that: it may have room later.
        """
        refusal = f"records: {self.path} cannot be written"
        mend = "name a file in a folder that exists and can be written"
        try:
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
        except OSError as error:
            if error.errno not in _FULL:
                raise RecordsError(
                    f"{refusal}: {self.path.parent}: {error.strerror}; {mend}"
                ) from error
        if self.path.is_dir() or (self.path.exists() and not os.access(self.path, os.W_OK)):
            raise RecordsError(f"{refusal}; {mend}")


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
