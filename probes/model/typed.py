"""Checks a value from JSON against the type of a dataclass's field."""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value has a type: a class, Literal, union, ``tuple[one, ...]`` or array.

    An int passes as a float, a bool passes as neither; a float must be finite.
    """
    origin = get_origin(hint)
    if hasattr(origin, "__value__"):  # NDArray is such an alias in numpy for Python 3.12
        origin = get_origin(origin.__value__)
    if origin is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(part, get_args(hint)[0]) for part in value)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    if hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (hint is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, hint)
