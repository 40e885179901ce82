"""What can go wrong with the records, as one small tree.

RecordsError                a setting of the records is wrong; names the mend
├── RecordsUnavailable      the database is locked, full or away: later it may work
├── InvalidRecord           a record that no database would take; names the field
├── UnknownAnswer           an outcome for an answer that is not kept
└── ImageArchiveError       an image could not be kept, read or deleted
"""

from __future__ import annotations


class RecordsError(Exception):
    """Base of every error that the records raise on purpose."""


class RecordsUnavailable(RecordsError):
    """The database is locked, full or away. Trying again later makes sense."""


class InvalidRecord(RecordsError):
    """A record that will never be written. Trying again makes no sense."""


class UnknownAnswer(RecordsError):
    """There is no answer of this id in the records: never written, or past its retention."""


class ImageArchiveError(RecordsError):
    """An image could not be kept, read or deleted."""
