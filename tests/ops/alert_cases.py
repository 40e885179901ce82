"""For every alert: what makes it fire, what does not, and what the page then says.

Series are written as promtool reads them, one value a minute: ``0+60x30`` rises by 60 a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AT = 'job="vlm-gate", instance="gate:8080"'
UP = {f"up{{{AT}}}": "1x5000", f"vlm_gate_build_info{{{AT}}}": "1x5000"}
Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """One alert.

    Args:
        fires: series under which it fires at minute ``at``, the condition holding from the start.
        quiet: series, as near to that as may be, under which nothing fires at minute ``at``.
        summary: as the page reads.
        labels: besides ``job`` and ``severity``; by default the instance.
    """

    alert: str
    fires: Series
    quiet: Series
    at: int
    summary: str
    labels: Mapping[str, str] = field(default_factory=lambda: {"instance": "gate:8080"})


def gauge(name: str, value: float, **labels: str) -> Series:
    """A gauge that stays where it is."""
    return {_series(name, labels): f"{value}x5000"}


def counter(name: str, per_minute: float, **labels: str) -> Series:
    """A counter that rises evenly."""
    return {_series(name, labels): f"0+{per_minute}x5000"}


def _series(name: str, labels: Mapping[str, str]) -> str:
    told = "".join(f', {key}="{value}"' for key, value in labels.items())
    return f"{name}{{{AT}{told}}}"


def decided(per_minute: float, decision: str, reason: str) -> Series:
    return counter(
        "vlm_gate_decisions_total", per_minute, decision=decision, reason=reason, mode="enforce"
    )


def asked(good: float, bad: float) -> Series:
    """Questions a minute that got a 200, and a 503."""
    name, route = "vlm_gate_requests_total", "/v1/answer"
    return {
        **counter(name, good, route=route, code="200"),
        **counter(name, bad, route=route, code="503"),
    }


def took(seconds: str) -> Series:
    """All answers take up to ``seconds``, a bucket's edge."""
    edges = ("0.5", "10.0", "30.0", "+Inf")
    name = "vlm_gate_stage_duration_seconds_bucket"
    return {
        key: text
        for edge in edges
        for key, text in counter(
            name, 60 if float(edge) >= float(seconds) else 0, stage="total", le=edge
        ).items()
    }


def audited(estimate: float, judged: int) -> Series:
    return {
        **gauge("vlm_gate_audit_error_ratio", estimate, bound="estimate"),
        **gauge("vlm_gate_certificate_alpha_ratio", 0.1),
        **gauge("vlm_gate_audits_judged", judged),
    }


def ranked(probe: float, lower: float) -> Series:
    name = "vlm_gate_signal_auroc"
    return {
        **gauge(name, probe, signal="hidden_state_probe", bound="estimate"),
        **gauge(name, lower, signal="token_confidence", bound="lower"),
    }


ACCEPTING = {
    **decided(60, "accept", "risk_below_threshold"),
    **gauge("vlm_gate_risk_drift_ratio", 1),
}
DAY, WEEKS = 86400, 14 * 86400
PER_JOB: Mapping[str, str] = {}

CASES = (
    Case(
        "VlmGateRiskShifted",
        gauge("vlm_gate_risk_drift_ratio", 6.25),
        gauge("vlm_gate_risk_drift_ratio", 4),
        6,
        "The risks on gate:8080 have shifted: ratio 6.2, limit 4",
    ),
    Case(
        "VlmGateCertificateVoid",
        gauge("vlm_gate_certificate_valid", 0),
        gauge("vlm_gate_certificate_valid", 1),
        3,
        "No certificate is in force on gate:8080; nothing is accepted",
    ),
    Case(
        "VlmGateCertificateExpiring",
        gauge("vlm_gate_certificate_expiry_timestamp_seconds", 2 * DAY + 60 * 60),
        gauge("vlm_gate_certificate_expiry_timestamp_seconds", WEEKS + 3 * DAY),
        60,
        "The certificate on gate:8080 expires in 2d 0h 0m 0s",
    ),
    Case(
        "VlmGateAuditErrorAboveAlpha",
        audited(0.125, 50),
        audited(0.125, 49),
        31,
        "Audits find 12.5% of accepted answers wrong, more than alpha",
        PER_JOB,
    ),
    Case(
        "VlmGatePromiseDoubted",
        gauge("vlm_gate_promise_evidence_ratio", 0.5),
        gauge("vlm_gate_promise_evidence_ratio", 0.25),
        11,
        "Audits have gathered 50% of the evidence that voids the certificate",
        PER_JOB,
    ),
    Case(
        "VlmGateAuditsUnjudged",
        gauge("vlm_gate_audits_awaiting", 7),
        {**gauge("vlm_gate_audits_awaiting", 7), **audited(0.05, 1)},
        24 * 60,
        "7 audits wait and none was ever judged",
        PER_JOB,
    ),
    Case(
        "VlmGateRiskDriftUnknown",
        decided(60, "accept", "risk_below_threshold"),
        ACCEPTING,
        6 * 60 + 20,
        "Drift is not measured on gate:8080",
    ),
    Case(
        "VlmGateEscalationsOverCapacity",
        {
            **ACCEPTING,
            **decided(2, "escalate", "risk_above_threshold"),
            **gauge("vlm_gate_review_capacity_per_hour", 100),
        },
        {
            **ACCEPTING,
            **decided(2, "escalate", "risk_above_threshold"),
            **gauge("vlm_gate_review_capacity_per_hour", 130),
        },
        120,
        "120 escalations in the last hour, more than the reviewers can take",
        PER_JOB,
    ),
    Case(
        "VlmGateOutOfDomainSurge",
        {**ACCEPTING, **counter("vlm_gate_out_of_domain_total", 15)},
        {**ACCEPTING, **counter("vlm_gate_out_of_domain_total", 12)},
        12,
        "25% of the requests lie outside the domain of validity",
        PER_JOB,
    ),
    Case(
        "VlmGateSignalUnavailable",
        {**ACCEPTING, **decided(20, "escalate", "signal_unavailable")},
        {**ACCEPTING, **decided(0.5, "escalate", "signal_unavailable")},
        12,
        "25% of the answers lack a signal that the policy requires",
        PER_JOB,
    ),
    Case(
        "VlmGateProbeBelowTokenConfidence",
        ranked(0.61, 0.65),
        ranked(0.66, 0.65),
        60,
        "On audited answers the probe (AUROC 0.61) ranks worse than token confidence",
        PER_JOB,
    ),
    Case(
        "VlmGateRecordsFailing",
        gauge("vlm_gate_records_failing", 1),
        gauge("vlm_gate_records_failing", 0),
        5,
        "The records of gate:8080 cannot be written",
    ),
    Case(
        "VlmGateRecordsDropped",
        counter("vlm_gate_records_dropped_total", 3),
        counter("vlm_gate_records_dropped_total", 0),
        10,
        "30 answers of gate:8080 are not in the records",
    ),
    Case(
        "VlmGateServiceDown",
        {f"up{{{AT}}}": "0x5000"},
        {},
        1,
        "gate:8080 does not answer Prometheus",
    ),
    Case(
        "VlmGateMetricsAbsent",
        {f"vlm_gate_build_info{{{AT}}}": "_x5000"},
        {},
        5,
        "Prometheus has no metrics of vlm-gate",
    ),
    Case(
        "VlmGateMetricsAbsent",
        {f"up{{{AT}}}": "_x5000", f"vlm_gate_build_info{{{AT}}}": "_x5000"},
        {},
        5,
        "Prometheus has no metrics of vlm-gate",
        PER_JOB,
    ),
    Case(
        "VlmGateEngineDown",
        gauge("vlm_gate_engine_healthy", 0),
        gauge("vlm_gate_engine_healthy", 1),
        1,
        "The engine on gate:8080 has failed or hangs",
    ),
    Case(  # the process ended with its engine; in the other it was started again
        "VlmGateEngineDown",
        {f"vlm_gate_engine_healthy{{{AT}}}": "0 stale"},
        {f"vlm_gate_engine_healthy{{{AT}}}": "0 1x5000"},
        1,
        "The engine on gate:8080 has failed or hangs",
    ),
    Case(
        "VlmGateParityFailed",
        gauge("vlm_gate_parity_failed", 1),
        gauge("vlm_gate_parity_failed", 0),
        1,
        "The self-test failed on gate:8080; it takes no traffic",
    ),
    Case(
        "VlmGateNotReady",
        gauge("vlm_gate_ready", 0),
        gauge("vlm_gate_ready", 1),
        10,
        "gate:8080 has not been ready for 10 minutes",
    ),
    Case(
        "VlmGateNoTraffic",
        decided(0, "accept", "risk_below_threshold"),
        {**ACCEPTING, **decided(1, "accept", "risk_below_threshold")},
        17,
        "Nobody has asked vlm-gate anything for 15 minutes",
        PER_JOB,
    ),
    Case(
        "VlmGateErrorBudgetBurnFast",
        asked(98, 2),
        asked(9990, 10),
        5,
        "2% of the questions get an error; the month's budget is gone within days",
        PER_JOB,
    ),
    Case(
        "VlmGateErrorBudgetBurnSlow",
        asked(9960, 40),
        asked(9995, 5),
        20,
        "0.4% of the questions get an error; the month's budget will not last",
        PER_JOB,
    ),
    Case(
        "VlmGateLatencyHigh",
        {**took("30.0"), **gauge("vlm_gate_deadline_seconds", 30)},
        {**took("10.0"), **gauge("vlm_gate_deadline_seconds", 30)},
        12,
        "One answer in twenty takes over 29s",
        PER_JOB,
    ),
    Case(
        "VlmGateQueueSaturated",
        {**gauge("vlm_gate_queue_depth", 56), **gauge("vlm_gate_queue_limit", 64)},
        {**gauge("vlm_gate_queue_depth", 50), **gauge("vlm_gate_queue_limit", 64)},
        6,
        "The queue on gate:8080 is 87.5% full",
    ),
)
