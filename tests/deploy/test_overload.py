"""The overload test in short: a few seconds against the real service, as a process."""

from __future__ import annotations

SHORT = {
    "seconds": 4,
    "inflight": 4,
    "latency-seconds": 0.4,
    "queue": 60,
    "deadline-seconds": 2,
    "side": 64,
    "slack-seconds": 1.0,  # the other tests share the cores
    "least-goodput": 0.5,  # seconds are too short for more; the whole test holds 0.9
}


def test_at_five_times_the_capacity_everyone_gets_an_answer_or_a_clean_no(loadtest):
    options = [text for name, value in SHORT.items() for text in (f"--{name}", str(value))]
    result = loadtest("overload.py", *options)
    assert result["broken"] == [], result
    assert result["requests"] > 100
    assert set(result["codes"]) <= {"200", "503", "504"}
    assert result["codes"]["503"] > result["codes"]["200"] > 0
    assert {"deadline_unreachable"} <= set(result["refusals"])
    assert result["accepted_p99_seconds"] < 2.25
