"""One call of the service: its tries, its pauses, its end.

ClientError            the call gave no answer
├── Refused            a problem document: status, kind, field, detail
├── Unreachable        no service answers there, or not one of ours
└── OutOfTime          the deadline passed
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import httpx

RETRIED = (429, 503)
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 8.0


class ClientError(Exception):
    """The call gave no answer."""


class Refused(ClientError):
    """The service said why not.

    Args:
        status: HTTP status.
        problem: the problem document; empty when there was none.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.kind = str(problem.get("type", "")).rpartition(":")[2] or None
        self.field: str | None = problem.get("field")
        self.detail = str(problem.get("detail", "no problem document came with it"))
        super().__init__(f"{status} {problem.get('title', '')}: {self.detail}")


class Unreachable(ClientError):
    """No service answers there, or not one of ours."""


class OutOfTime(ClientError):
    """The deadline passed before there was an answer."""


class Call:
    """One request and its tries, without any input or output of its own.

    Args:
        request: makes a try, given the seconds left.
        url: of the service.
        deadline_seconds: of all tries and pauses together.
        tries: most tries; 429, 503 and broken connections are tried again.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        request: Callable[[float], httpx.Request],
        *,
        url: str,
        deadline_seconds: float,
        tries: int,
        clock: Callable[[], float],
    ) -> None:
        self._request, self._clock, self._url = request, clock, url
        self._ends = clock() + deadline_seconds
        self._deadline_seconds = deadline_seconds
        self._left = tries
        self._pause = FIRST_PAUSE_SECONDS

    def next(self) -> httpx.Request:
        """The next try, which ends with the deadline. Raises OutOfTime."""
        seconds = self._ends - self._clock()
        if seconds <= 0:
            raise self._too_late()
        self._left -= 1
        return self._request(seconds)

    def judge(self, response: httpx.Response) -> float | None:
        """None when this is the answer, else the seconds to wait. Raises Refused, OutOfTime."""
        if response.is_success:
            return None
        refused = Refused(response.status_code, _problem(response))
        if response.status_code not in RETRIED:
            raise refused
        try:
            told = max(float(response.headers.get("retry-after", 0)), 0.0)
        except ValueError:  # a date: the service sends none
            told = 0.0
        return self._wait(told, refused)

    def judge_error(self, error: httpx.TransportError | httpx.InvalidURL) -> float:
        """The seconds to wait after a broken connection. Raises Unreachable, OutOfTime."""
        if isinstance(error, httpx.TimeoutException) and self._clock() >= self._ends:
            raise self._too_late() from error
        gone = Unreachable(
            f"no service answers at {self._url} ({error}); start one with: vlm-gate serve"
        )
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            raise gone from error
        return self._wait(0.0, gone)

    def _too_late(self) -> OutOfTime:
        return OutOfTime(f"no answer within {self._deadline_seconds:g} s")

    def _wait(self, told: float, failed: ClientError) -> float:
        """At least what was told, and a random time more, so that not all come back at once."""
        seconds = told + random.uniform(0, self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if self._left <= 0 or self._clock() + seconds >= self._ends:
            raise failed
        return seconds


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
