"""Regular expressions from data, in time linear in the answer's length whatever they say."""

from __future__ import annotations

from typing import Any

from probes.errors import DataError

MOST_PATTERN = 500
MOST_ANSWER = 4_000
"""Longest pattern, and longest answer that one is tried on, in characters."""


class Pattern:
    """A pattern that must match a whole answer, without regard to case.

    RE2 (through Arrow) runs it: no pattern takes exponential time, and what would need it, such as
    back references and look-around, is refused. Raises DataError for a pattern it does not read.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MOST_PATTERN:
            raise DataError(f"references: a pattern is longer than {MOST_PATTERN} characters")
        self._whole = rf"(?is)\A(?:{pattern})\z"
        try:
            _search("", pattern)  # by itself: its brackets must close
            self.matches("")
        except ValueError as error:
            raise DataError(f"references: {pattern!r} is no pattern of RE2 ({error})") from error

    def matches(self, answer: str) -> bool:
        """Whether the whole answer, without blanks around it, is matched."""
        text = answer.strip()
        return len(text) <= MOST_ANSWER and _search(text, self._whole)


def _search(text: str, pattern: str) -> bool:
    import pyarrow as pa  # here, for a service that judges no pattern needs none of it
    import pyarrow.compute as compute

    found: Any = compute.match_substring_regex(pa.array([text]), pattern=pattern)
    return bool(found[0].as_py())
