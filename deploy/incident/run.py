"""An incident from beginning to end, with the real programs, and whether the pages came in time.

    python -m deploy.incident.run --out docs/images --report docs/results/incident.md

An inspection line runs well, its images are degraded step by step, they recover; the engine stops,
the service is killed, and starts again. ``--factor`` shortens every duration of the deployed rules
and configurations, and nothing else. Prints one JSON object; ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.grafana.panels import data_of_panels
from deploy.grafana.render import render_all
from deploy.incident.line import Line
from deploy.incident.report import write_report
from deploy.incident.stack import IncidentError, Page, Stack
from probes.monitor.drift import DRIFT_LIMIT

SEVERITIES = (0.5, 0.75, 1.0)
NORMAL_SECONDS = 300
STEP_SECONDS = 120
SLACK_SECONDS = 12.0
"""For what does not shrink with the factor: a busy machine, and looks once a second."""

STATED_SECONDS = {"VlmGateRiskShifted": 360, "VlmGateEngineDown": 120, "VlmGateServiceDown": 120}
"""From when the condition holds (ratio over 4; engine given up; killed) to the page."""


class Story:
    """What happened when, and what was promised of it."""

    def __init__(self, stack: Stack, line: Line, options: argparse.Namespace) -> None:
        self.stack, self.line, self.options = stack, line, options
        self.began = time.time()
        self.events: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self.marks: list[tuple[float, str]] = []

    def tell(self, what: str, at: float | None = None) -> float:
        """Note an event; gives its Unix time."""
        at = time.time() if at is None else at
        self.events.append({"at": datetime.fromtimestamp(at, UTC).isoformat(), "what": what})
        print(f"{at - self.began:7.1f} s  {what}", file=sys.stderr, flush=True)
        return at

    def turn(self, what: str) -> float:
        """An event that the pictures show as a line."""
        at = self.tell(what)
        self.marks.append((at, what))
        return at

    def check(self, holds: bool, promise: str) -> None:
        """Note a promise that was broken."""
        if not holds:
            self.broken.append(promise)
            self.tell(f"BROKEN: {promise}")

    async def pause(self, seconds: float) -> None:
        """Seconds of the story: as deployed, times the factor."""
        await asyncio.sleep(seconds * self.options.factor)

    async def until(self, condition: Callable[[], bool], what: str, limit: float) -> None:
        """Look again and again. Raises IncidentError after ``limit`` real seconds."""
        end = time.monotonic() + limit
        while not await asyncio.to_thread(condition):
            if time.monotonic() > end:
                raise IncidentError(f"not within {limit:.0f} s: {what}")
            await asyncio.sleep(0.2)

    def page(self, alert: str, status: str, since: float) -> Page | None:
        """The first one of that kind after ``since``."""
        for page in self.stack.pages:
            if (page.alert, page.status) == (alert, status) and page.at >= since:
                return page
        return None

    async def paged(self, alert: str, since: float) -> Page:
        """Wait for a page and check that it came to the pager, in time, with its runbook."""
        stated = STATED_SECONDS[alert] * self.options.factor + SLACK_SECONDS
        await self.until(
            lambda: self.page(alert, "firing", since) is not None, alert, 2 * stated + 60
        )
        page = self.page(alert, "firing", since)
        assert page is not None
        took = page.at - since
        self.tell(f"{alert} arrived at the {page.receiver}, {took:.1f} s later", page.at)
        self.check(took <= stated, f"{alert} within {stated:.0f} s")
        self.check(page.receiver == "pager", f"{alert} goes to the pager")
        link = page.annotations["runbook_url"]
        self.check(link.endswith(f"/runbooks/{alert}.md"), f"{alert} carries its runbook")
        return page

    async def resolved(self, alert: str, since: float, limit: float) -> None:
        """Wait until it is told that an alert is over."""
        await self.until(
            lambda: self.page(alert, "resolved", since) is not None, f"{alert} resolved", limit
        )
        page = self.page(alert, "resolved", since)
        assert page is not None
        self.tell(f"{alert} resolved, {page.at - since:.1f} s later", page.at)

    def drift(self) -> float | None:
        """As Prometheus knows it."""
        found = self.stack.query("max(vlm_gate_risk_drift_ratio)")
        return float(found[0]["value"][1]) if found else None


async def normal(story: Story) -> None:
    """Good images: nothing fires."""
    story.tell("normal traffic begins")
    began = time.monotonic()
    await story.until(lambda: story.drift() is not None, "the window is full", 600)
    await asyncio.sleep(max(NORMAL_SECONDS * story.options.factor - time.monotonic() + began, 0))
    alerts = sorted({page.alert for page in story.stack.pages})
    seconds = time.monotonic() - began
    story.tell(f"{seconds:.0f} s of normal traffic: alerts {alerts}, drift {story.drift():.2f}")
    story.check(not alerts, "no alert during normal traffic")


async def degraded(story: Story) -> None:
    """Worse and worse images: the risk shifts."""
    window = story.options.window
    before, passed = sum(story.line.told.values()), 0.0
    for severity in SEVERITIES:
        story.line.least_severity = severity
        since = story.turn(f"images are degraded to severity {severity}")
        step = time.monotonic() + STEP_SECONDS * story.options.factor
        while time.monotonic() < step:
            if not passed and (story.drift() or 0) > DRIFT_LIMIT:
                answers = sum(story.line.told.values()) - before
                passed = story.tell(f"the drift ratio passes 4 after {answers} answers")
                story.check(answers <= window, "the drift is seen within one window")
            await asyncio.sleep(0.2)
    await story.until(lambda: (story.drift() or 0) > DRIFT_LIMIT, "drift over 4", 60)
    await story.paged("VlmGateRiskShifted", passed or since)
    story.tell(f"drift ratio {story.drift():.1f}")


async def recovered(story: Story) -> None:
    """Good images again."""
    story.line.least_severity = 0.0
    since = story.turn("images recover")
    seconds = 3 * story.options.window / story.options.rate + 300 * story.options.factor
    await story.resolved("VlmGateRiskShifted", since, seconds + SLACK_SECONDS)
    await story.until(
        lambda: bool(story.stack.query("vlm_gate_signal_auroc")),
        "enough audits to judge the signals by",
        300,
    )


async def engine_stops(story: Story) -> None:
    """The engine gives no answer any more; the service finds out and says so."""
    story.turn("the engine stops")
    story.stack.stop_engine()
    await story.until(
        lambda: bool(story.stack.query("vlm_gate_engine_healthy == 0")),
        "the engine is given up",
        60 * story.options.factor + 60,
    )
    await story.paged("VlmGateEngineDown", story.tell("the engine was given up"))


async def service_stops(story: Story) -> None:
    """The service is killed, and started again."""
    story.stack.stop_service()
    killed = story.turn("the service is killed")
    await story.paged("VlmGateServiceDown", killed)
    story.turn("the service is started")
    await asyncio.to_thread(story.stack.start_service)
    story.tell("the service is ready")
    for alert in ("VlmGateServiceDown", "VlmGateEngineDown"):
        await story.resolved(alert, killed, 300 * story.options.factor + 30)


async def incident(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the story; gives what it found."""
    settings = {
        "VLM_GATE_DRIFT_WINDOW": str(options.window),
        "VLM_GATE_AUDIT_RATE": str(options.audit_rate),
        "VLM_GATE_ENGINE_TIMEOUT_SECONDS": str(max(60 * options.factor, 4)),
        "VLM_GATE_ENGINE_EXIT_SECONDS": "3600",  # the story ends it, and nothing restarts it here
        "VLM_GATE_METRICS_SLICES": "line:1,line:2",
        "VLM_GATE_REVIEW_CAPACITY_PER_HOUR": "12000",
        "VLM_GATE_LOG_LEVEL": "warning",
    }
    with Stack(folder, options.factor, settings) as stack:
        line = Line(stack.url, options.rate)
        story = Story(stack, line, options)
        try:
            for part in (normal, degraded, recovered, engine_stops, service_stops):
                await part(story)
            await story.pause(60)
        finally:
            await line.close()
        empty, excluded = data_of_panels(stack.query, story.began, options.factor)
        story.check(not empty, f"every panel has data; these have none: {empty}")
        for metric in ("vlm_gate_risk_score_bucket", "vlm_gate_stage_duration_seconds_bucket"):
            kept = stack.exemplars(metric, story.began)
            story.check(bool(kept), f"Prometheus keeps exemplars of {metric}")
        if options.out is not None:
            render_all(stack.query, story.began, options.factor, options.out, story.marks)
    return {
        "factor": options.factor,
        "window": options.window,
        "rate": options.rate,
        "audit_rate": options.audit_rate,
        "broken": story.broken,
        "events": story.events,
        "replies": dict(line.told),
        "judged": dict(line.judged),
        "pages": [
            {"at": datetime.fromtimestamp(p.at, UTC).isoformat(), "receiver": p.receiver,
             "status": p.status, "alert": p.alert, "runbook": p.annotations["runbook_url"]}
            for p in stack.pages
        ],
        "panels_excluded": excluded,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factor", type=float, default=1.0, help="on every duration")
    parser.add_argument("--rate", type=float, default=8.0, help="questions a second")
    parser.add_argument("--window", type=int, default=1000, help="VLM_GATE_DRIFT_WINDOW")
    parser.add_argument("--audit-rate", type=float, default=0.2, help="VLM_GATE_AUDIT_RATE")
    parser.add_argument("--out", type=Path, help="folder for the dashboards as PNG")
    parser.add_argument("--report", type=Path, help="file for the story, Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(incident(options, Path(folder)))
    if options.report is not None:
        write_report(options.report, result)
    print(json.dumps(result, indent=1))
    sys.exit(1 if result["broken"] else 0)


if __name__ == "__main__":
    main()
