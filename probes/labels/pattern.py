"""Regular expressions from data, in time linear in the answer's length whatever they say."""

from __future__ import annotations

import re2

from probes.errors import DataError

MOST_PATTERN = 500
MOST_ANSWER = 4_000
"""Longest pattern, and longest answer that one is tried on, in characters."""


class Pattern:
    """A pattern that must match a whole answer, without regard to case.

    RE2 runs it: no pattern takes exponential time, and what would need it, such as back references
    and look-around, is refused. Raises DataError for a pattern it does not read.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MOST_PATTERN:
            raise DataError(f"references: a pattern is longer than {MOST_PATTERN} characters")
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(pattern, options)  # by itself: its brackets must close
            self._whole = re2.compile(rf"(?is)\A(?:{pattern})\z", options)
        except re2.error as error:
            why = error.args[0].decode(errors="replace")
            raise DataError(f"references: {pattern!r} is no pattern of RE2 ({why})") from error
        except UnicodeError as error:
            raise DataError(f"references: {pattern!r} is no text ({error})") from error
        re2.purge()  # its cache would keep up to 128 patterns of 8 MiB

    def matches(self, answer: str) -> bool:
        """Whether the whole answer, without blanks around it, is matched."""
        text = answer.strip()
        return len(text) <= MOST_ANSWER and self._whole.search(text) is not None
