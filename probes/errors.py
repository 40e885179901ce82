"""What can go wrong in the science, as one small tree.

GateError
├── DataError          a dataset, image or record cannot be used; names the record
│   └── QuestionRefused  the model cannot be asked a question; names the mend
├── StoreError         a run's folder is damaged or does not fit; names the file
├── BundleError        a bundle cannot be loaded; names the field
└── TrainingError      there is not enough, or not the right, data to fit on
"""

from __future__ import annotations

NOT_UNDERSTOOD = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What content from outside raises that parses, and is not of the shape that its readers go by: an
end at infinity, a list for a number."""


class GateError(Exception):
    """Base of every error that this package raises on purpose."""


class DataError(GateError):
    """A dataset, an image or a record cannot be used."""


class QuestionRefused(DataError):
    """The model cannot be asked this question; the message names the field and the mend."""


class StoreError(GateError):
    """A run's folder is damaged or does not fit what is asked of it."""


class BundleError(GateError):
    """A bundle cannot be loaded.

    Args:
        field: the manifest's field, or the file, that is wrong.
        message: what is wrong with it and what to do.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class TrainingError(GateError):
    """There is not enough, or not the right, data to fit on."""
