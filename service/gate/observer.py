"""What the gate reports to whoever counts: :class:`service.observe.telemetry.Telemetry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Observer(Protocol):
    """Counts what the gate alone sees. Its methods may be called from any thread."""

    def records_lost(self, count: int) -> None:
        """Count answers that are not in the records."""
        ...

    def image_lost(self) -> None:
        """Count an image for review that could not be kept."""
        ...

    def set_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Take the thresholds of the rules now in force, by name."""
        ...
