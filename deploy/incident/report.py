"""The story of an incident as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INTRODUCTION = """# An incident, as it was paged

Made by `make incident` ({made} UTC, {cores} cores): the real service with the embedded model, and
Prometheus and Alertmanager from Debian with the deployed rules and configurations, every duration
times {factor:g}. An inspection line asks {rate:g} questions a second about held-out images;
{audit_rate:.0%} of the accepted answers are audited at once; the drift is measured over
{window} answers. The dashboards of this run: [Risk](../images/vlm-gate-risk.png),
[Signals](../images/vlm-gate-signals.png), [Service](../images/vlm-gate-service.png).

Promises broken: {broken}.
"""


def write_report(path: Path, result: Mapping[str, Any]) -> None:
    """Markdown: what happened when, and every page."""
    events = sorted(result["events"], key=lambda event: event["at"])
    pages = result["pages"]
    text = INTRODUCTION.format(
        made=events[0]["at"][:16].replace("T", " "),
        cores=os.cpu_count(),
        broken="; ".join(result["broken"]) or "none",
        **{name: result[name] for name in ("factor", "rate", "audit_rate", "window")},
    )
    text += "\n| time (UTC) | what happened |\n|---|---|\n"
    text += "".join(f"| {_clock(event['at'])} | {event['what']} |\n" for event in events)
    text += "\n## Every notification of the webhook\n\n"
    text += "| time (UTC) | receiver | status | alert |\n|---|---|---|---|\n"
    text += "".join(
        f"| {_clock(page['at'])} | {page['receiver']} | {page['status']} "
        f"| [{page['alert']}](../../deploy/runbooks/{page['alert']}.md) |\n"
        for page in pages
    )
    text += "\n## What the line was told\n\nReplies: " + _counts(result["replies"])
    text += ". By decision and truth: " + _counts(result["judged"]) + ".\n"
    text += "\nPanels that need other programs and were left out: "
    text += "; ".join(f"*{name}* ({why})" for name, why in result["panels_excluded"].items())
    path.write_text(text + ".\n", encoding="utf-8")


def _clock(at: str) -> str:
    return at[11:19]


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{count} {name}" for name, count in ordered)
