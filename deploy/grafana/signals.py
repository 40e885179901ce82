"""Dashboard *Signals*: what each one is worth, attention's sharpness among them."""

from __future__ import annotations

from deploy.grafana.panels import JOB, RATE, Board, Panel, Query, Row

AUROC = "vlm_gate_signal_auroc"


def _interval(signal: str, title: str) -> Panel:
    return Panel(
        title,
        tuple(
            Query(f'max({AUROC}{{{JOB},signal="{signal}",bound="{bound}"}})', bound)
            for bound in ("estimate", "lower", "upper")
        ),
        span=6, limit=0.5, most=1,
        description="AUROC on audited answers with its 95 % interval; 0.5 is chance.",
    )  # fmt: skip


def _spread(metric: str, title: str, description: str) -> Panel:
    bucket = f"sum by (le) (rate({metric}_bucket{{{JOB}}}[{RATE}]))"
    return Panel(
        title,
        tuple(
            Query(f"histogram_quantile({share}, {bucket})", f"{share:.0%} below")
            for share in (0.1, 0.5, 0.9)
        ),
        description=description,
    )


WORTH = Row(
    'What each signal is worth: AUROC of "wrong" on audited answers',
    (
        Panel(
            "All signals side by side",
            (Query(f'max by (signal) ({AUROC}{{{JOB},bound="estimate"}})', "{{signal}}"),),
            span=24, limit=0.5, most=1,
            description="0.5 is chance. Audited answers are accepted ones: less spread than all.",
        ),
        _interval("hidden_state_probe", "Hidden-state probe"),
        _interval("token_confidence", "Token confidence"),
        _interval("attention_spatial_entropy", "Attention: spatial entropy"),
        _interval("attention_top30_mass", "Attention: top-30 % mass"),
    ),
)  # fmt: skip

MEASURED = Row(
    "What they measure",
    (
        _spread(
            "vlm_gate_attention_spatial_entropy",
            "Attention: spatial entropy, nats",
            "Low is sharp. Compare its course with the risk's: it is for comparison only.",
        ),
        _spread(
            "vlm_gate_attention_top30_mass",
            "Attention: mass on the top 30 %",
            "High is sharp. For comparison only.",
        ),
        _spread(
            "vlm_gate_self_consistency_agreement",
            "Self-consistency: agreement",
            "Share of sampled answers equal to the greedy one.",
        ),
        Panel(
            "Self-consistency: runs",
            (Query(
                f"sum by (outcome) (rate(vlm_gate_self_consistency_runs_total{{{JOB}}}[{RATE}]))",
                "{{outcome}}",
            ),),
            unit="reqps", span=12, stacked=True,
        ),
        Panel(
            "Signals that could not be had",
            (Query(
                "sum by (signal, reason) "
                f"(rate(vlm_gate_signal_failures_total{{{JOB}}}[{RATE}])) or vector(0)",
                "{{signal}}: {{reason}}",
            ),),
            unit="reqps", span=12,
        ),
    ),
)  # fmt: skip

BOARD = Board(
    "vlm-gate-signals",
    "vlm-gate / Signals",
    "Probe, token confidence, self-consistency and attention, judged on the same audited answers.",
    (WORTH, MEASURED),
)
