"""Dashboard *Risk*: what is decided, how risky it is, and whether the promise holds."""

from __future__ import annotations

from deploy.grafana.panels import JOB, RATE, Board, Panel, Query, Row

DECISIONS = f"vlm_gate_decisions_total{{{JOB}}}"
RISK = f"vlm_gate_risk_score_bucket{{{JOB}}}"
AUDITED = "vlm_gate_audit_error_ratio"


def _quantile(share: float) -> Query:
    return Query(
        f"histogram_quantile({share}, sum by (le) (rate({RISK}[{RATE}])))", f"{share:.0%} below"
    )


NOW = Row(
    "Now",
    (
        Panel(
            "Accepted without a person",
            (Query(f"vlm_gate:coverage:ratio_rate5m{{{JOB}}}", "coverage"),),
            unit="percentunit", kind="number", span=4,
        ),
        Panel(
            "Expected error of accepted",
            (Query(f"vlm_gate:expected_error:ratio_rate5m{{{JOB}}}", "expected"),),
            unit="percentunit", kind="number", span=4,
            description="Mean risk of the accepted answers.",
        ),
        Panel(
            "Audited error of accepted",
            (Query(f'max({AUDITED}{{{JOB},bound="estimate"}})', "audited"),),
            unit="percentunit", kind="number", span=4,
        ),
        Panel(
            "Certificate in force",
            (Query(f"min(vlm_gate_certificate_valid{{{JOB}}})", "valid"),),
            kind="number", span=4,
            description="1 while it holds; 0: nothing is accepted.",
        ),
        Panel(
            "Certificate ends in",
            (Query(
                f"min(vlm_gate_certificate_expiry_timestamp_seconds{{{JOB}}}) - time()", "left"
            ),),
            unit="s", kind="number", span=4,
        ),
        Panel(
            "Alerts firing",
            (Query('count(ALERTS{alertname=~"VlmGate.*",alertstate="firing"}) or vector(0)',
                   "firing"),),
            kind="number", span=4,
        ),
    ),
)  # fmt: skip

RISKS = Row(
    "Risk",
    (
        Panel(
            "Risk, heat map",
            (Query(f"sum by (le) (increase({RISK}[{RATE}]))", "{{le}}"),),
            kind="heatmap", span=12,
            description="Share of answers by calibrated risk; edges at the thresholds.",
        ),
        Panel(
            "Risk and thresholds",
            (
                _quantile(0.25), _quantile(0.5), _quantile(0.75),
                Query(f"max by (kind) (vlm_gate_threshold{{{JOB}}})", "{{kind}}"),
            ),
            unit="percentunit", span=12, most=1,
        ),
        Panel(
            "Drift of the risks",
            (Query(f"vlm_gate_risk_drift_ratio{{{JOB}}}", "{{instance}}"),),
            limit=4,
            description="About 1 without drift; above 4 for 5 minutes pages (VlmGateRiskShifted).",
        ),
        Panel(
            "Outside the domain of validity",
            (Query(f"vlm_gate:out_of_domain:ratio_rate5m{{{JOB}}}", "share"),),
            unit="percentunit", limit=0.2, most=1,
        ),
        Panel(
            "Alerts over time",
            (Query('max by (alertname) (ALERTS{alertname=~"VlmGate.*",alertstate="firing"})',
                   "{{alertname}}"),),
            kind="states",
        ),
    ),
)  # fmt: skip

DECIDED = Row(
    "Decisions",
    (
        Panel(
            "Decisions",
            (Query(f"sum by (decision) (rate({DECISIONS}[{RATE}]))", "{{decision}}"),),
            unit="reqps", span=12, stacked=True,
        ),
        Panel(
            "Why",
            (Query(f"sum by (reason) (rate({DECISIONS}[{RATE}])) > 0", "{{reason}}"),),
            unit="reqps", span=12, stacked=True,
        ),
        Panel(
            "Coverage and escalations",
            (
                Query(f"vlm_gate:coverage:ratio_rate5m{{{JOB}}}", "accepted"),
                Query(f"vlm_gate:escalations:ratio_rate5m{{{JOB}}}", "escalated"),
            ),
            unit="percentunit", most=1,
        ),
        Panel(
            "Escalations and review capacity, an hour",
            (
                Query(f"vlm_gate:escalations:increase1h{{{JOB}}}", "escalations"),
                Query(f"max(vlm_gate_review_capacity_per_hour{{{JOB}}})", "capacity"),
            ),
        ),
        Panel(
            "Accepted share by slice",
            (Query(
                "sum by (slice) (rate(vlm_gate_slice_decisions_total"
                f'{{{JOB},decision="accept"}}[{RATE}])) / '
                f"sum by (slice) (rate(vlm_gate_slice_decisions_total{{{JOB}}}[{RATE}]))",
                "{{slice}}",
            ),),
            unit="percentunit", most=1,
            description="Of the metadata that VLM_GATE_METRICS_SLICES lists.",
        ),
    ),
)  # fmt: skip

PROMISE = Row(
    "Promise",
    (
        Panel(
            "Error of accepted answers against alpha",
            (
                Query(f"vlm_gate:expected_error:ratio_rate5m{{{JOB}}}", "expected by risk"),
                Query(f'max({AUDITED}{{{JOB},bound="estimate"}})', "audited"),
                Query(f'max({AUDITED}{{{JOB},bound="lower"}})', "audited, lower"),
                Query(f'max({AUDITED}{{{JOB},bound="upper"}})', "audited, upper"),
                Query(f"max(vlm_gate_certificate_alpha_ratio{{{JOB}}})", "alpha"),
            ),
            unit="percentunit", span=12, most=0.5,
        ),
        Panel(
            "Audits",
            (
                Query(f"max(vlm_gate_audits_judged{{{JOB}}})", "judged"),
                Query(f"max(vlm_gate_audits_awaiting{{{JOB}}})", "awaiting"),
            ),
            span=4,
        ),
        Panel(
            "Evidence against the promise",
            (Query(f"max(vlm_gate_promise_evidence_ratio{{{JOB}}})", "evidence"),),
            unit="percentunit", span=4, limit=1,
            description="Of the audits, over what voids the certificate; 100 % is void.",
        ),
        Panel(
            "Certificate",
            (Query(f"vlm_gate_certificate_valid{{{JOB}}}", "{{instance}}"),),
            span=4, most=1.2, description="1 while it holds.",
        ),
    ),
)  # fmt: skip

BOARD = Board(
    "vlm-gate-risk",
    "vlm-gate / Risk",
    "Decisions, risk and the promise on accepted answers.",
    (NOW, RISKS, DECIDED, PROMISE),
)
