"""What a refusal must hold."""

from __future__ import annotations


def has_words(error: Exception) -> None:
    """It says why, in a text that a log and a terminal can take."""
    assert str(error).strip()
    str(error).encode("utf-8", "backslashreplace")
