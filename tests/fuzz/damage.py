"""A few changes to bytes, such as libFuzzer makes."""

from __future__ import annotations

import random
from collections.abc import Sequence

ODD = (
    b"\0", b"\xff", b'"', b"\\", b"\n", b"\r\n", b"\xed\xa0\x80", b"9" * 400, b"[" * 2_000,
    b"1e400", b"NaN", b"null", b"\\ud800", b"%00", b"=", b";", b",", b"--", b"\r\n\r\n", b"chunked",
)  # fmt: skip


def damage(data: bytes, others: Sequence[bytes], choose: random.Random) -> bytes:
    """Cut, zeroed, moved, spliced with another, or with something odd put in."""
    for _ in range(choose.randint(1, 4)):
        at, end = sorted((choose.randint(0, len(data)), choose.randint(0, len(data))))
        other, odd = choose.choice(others), choose.choice(ODD)
        data = choose.choice(
            (
                data[:at],
                data[:at] + data[end:],
                data[:end] + data[at:],
                data[:at] + odd + data[at:],
                data[:at] + odd + data[end:],
                data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :],
                data[:at] + bytes(end - at) + data[end:],
                data[:at] + other[min(at, len(other)) : end],
            )
        )
    return data
