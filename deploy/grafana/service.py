"""Dashboard *Service*: requests, errors, duration, saturation, engine and machine."""

from __future__ import annotations

from deploy.grafana.panels import JOB, RATE, Board, Panel, Query, Row

REQUESTS = f"vlm_gate_requests_total{{{JOB}}}"
STAGE = "vlm_gate_stage_duration_seconds"
NO_VLLM = "exported by vLLM's own /metrics, where the engine is vLLM"
NO_GPU = "exported by NVIDIA's dcgm-exporter, where there is a GPU"


def _gauges(title: str, metrics: dict[str, str], **look: float) -> Panel:
    return Panel(
        title,
        tuple(
            Query(f"{name}{{{JOB}}}", f"{legend} {{{{instance}}}}")
            for name, legend in metrics.items()
        ),
        most=look.get("most"),
    )


RED = Row(
    "Requests, errors, duration",
    (
        Panel(
            "Requests by code",
            (Query(f"sum by (code) (rate({REQUESTS}[{RATE}]))", "{{code}}"),),
            unit="reqps", stacked=True,
        ),
        Panel(
            "Questions that got a 5xx",
            (
                Query(f"vlm_gate:request_errors:ratio_rate5m{{{JOB}}}", "5 minutes"),
                Query(f"vlm_gate:request_errors:ratio_rate1h{{{JOB}}}", "1 hour"),
                Query(f"vlm_gate:request_errors:ratio_rate6h{{{JOB}}}", "6 hours"),
            ),
            unit="percentunit", limit=0.0144,
            description="Above 1.44 % in 5 minutes and an hour pages.",
        ),
        Panel(
            "Time to answer",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (le) (rate("
                    f'{STAGE}_bucket{{{JOB},stage="total"}}[{RATE}])))',
                    f"p{share * 100:.0f}", exemplar=True,
                )
                for share in (0.5, 0.95, 0.99)
            ),
            unit="s", description="Dots are exemplars: they open the trace.",
        ),
        Panel(
            "Mean time by stage",
            (Query(
                f'sum by (stage) (rate({STAGE}_sum{{{JOB},stage!="total"}}[{RATE}])) / on () '
                f'group_left () sum (rate({STAGE}_count{{{JOB},stage="total"}}[{RATE}]))',
                "{{stage}}",
            ),),
            unit="s", stacked=True,
            description="generate, decode and queue are parts of one answer.",
        ),
        Panel(
            "Refused, by reason",
            (Query(
                f"sum by (reason) (rate(vlm_gate_rejected_requests_total{{{JOB}}}[{RATE}]))",
                "{{reason}}",
            ),),
            unit="reqps", stacked=True,
        ),
        _gauges(
            "Health",
            {
                "up": "scraped",
                "vlm_gate_ready": "ready",
                "vlm_gate_engine_healthy": "engine",
                "vlm_gate_parity_failed": "parity failed",
            },
            most=1.2,
        ),
    ),
)  # fmt: skip

SATURATION = Row(
    "Saturation",
    (
        _gauges(
            "Queue", {"vlm_gate_queue_depth": "waiting", "vlm_gate_queue_limit": "limit"}
        ),
        _gauges(
            "In flight",
            {"vlm_gate_inflight_requests": "worked on", "vlm_gate_inflight_limit": "limit"},
        ),
        Panel(
            "Records and images lost",
            (
                Query(f"increase(vlm_gate_records_dropped_total{{{JOB}}}[{RATE}])", "records"),
                Query(f"increase(vlm_gate_images_dropped_total{{{JOB}}}[{RATE}])", "images"),
            ),
        ),
        Panel(
            "Processor",
            (Query(f"rate(process_cpu_seconds_total{{{JOB}}}[{RATE}])", "{{instance}}"),),
            description="Cores in use.", span=12,
        ),
        Panel(
            "Memory",
            (Query(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}"),),
            unit="bytes", span=12,
        ),
    ),
)  # fmt: skip

ENGINE = Row(
    "vLLM and GPU",
    (
        Panel(
            "vLLM: requests",
            (
                Query("sum(vllm:num_requests_running)", "running"),
                Query("sum(vllm:num_requests_waiting)", "waiting"),
            ),
            without_data=NO_VLLM,
        ),
        Panel(
            "vLLM: KV cache in use",
            (Query("max(vllm:kv_cache_usage_perc)", "KV cache"),),
            unit="percentunit", most=1, without_data=NO_VLLM,
        ),
        Panel(
            "vLLM: tokens and preemptions",
            (
                Query(f"sum(rate(vllm:generation_tokens_total[{RATE}]))", "tokens/s"),
                Query(f"sum(rate(vllm:num_preemptions_total[{RATE}]))", "preemptions/s"),
            ),
            without_data=NO_VLLM,
        ),
        Panel(
            "GPU in use",
            (Query("DCGM_FI_DEV_GPU_UTIL", "{{Hostname}} {{gpu}}"),),
            unit="percent", span=12, most=100, without_data=NO_GPU,
        ),
        Panel(
            "GPU memory in use",
            (Query("DCGM_FI_DEV_FB_USED * 1048576", "{{Hostname}} {{gpu}}"),),
            unit="bytes", span=12, without_data=NO_GPU,
        ),
    ),
)  # fmt: skip

BOARD = Board(
    "vlm-gate-service",
    "vlm-gate / Service",
    "Requests, errors, duration, saturation; vLLM and GPU where there are any.",
    (RED, SATURATION, ENGINE),
)
