"""``X-Request-Timeout``: how long a caller is willing to wait."""

from __future__ import annotations

import math

from starlette.datastructures import Headers

from service.errors import Malformed

HEADER = "X-Request-Timeout"


def time_limit(headers: Headers, longest: float) -> float:
    """Seconds for one request: the header's, at most ``longest``, which stands when it is absent.

    Raises Malformed unless it is a number above 0.
    """
    text = headers.get(HEADER)
    if text is None:
        return longest
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise Malformed(
            f"{HEADER} is not a time; send seconds above 0, such as 2.5",
            field=HEADER,
            kind="invalid_header",
        )
    return min(seconds, longest)
