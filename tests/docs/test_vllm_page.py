"""What docs/vllm.md says of GPUs is what the raw results say."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.host import ROOT

PAGE = (ROOT / "docs" / "vllm.md").read_text()
RESULTS = ROOT / "benchmarks" / "results" / "vllm_h100"


def result(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """The one part of a file of results."""
    whole = json.loads((folder / f"{name}.json").read_text())
    (part,) = (value for key, value in whole.items() if key not in ("host", "arguments"))
    return dict(part)


def said(row: str) -> None:
    assert row in PAGE, row


def test_throughput() -> None:
    for shape in ("llava-1.5-7b", "qwen2-vl-7b", "paligemma-3b"):
        found = result(f"throughput_{shape}")
        rate, token = found["throughput_ratio"], found["time_per_token_ratio"]
        said(
            f"| {shape} | {median(found['requests_per_second']['plain']):.1f} "
            f"| {rate['readouts']:.3f} | {rate['attention']:.3f} "
            f"| {1000 * median(found['seconds_per_token_at_8']['plain']):.1f} "
            f"| {token['readouts']:.2f} | {token['attention']:.2f} |"
        )

    def spread(shape: str, what: str) -> str:
        ratios = [r for way in result(f"throughput_{shape}")[what].values() for r in way]
        return f"{min(ratios):.2f} to {max(ratios):.2f}"

    llava, paligemma = (
        spread(shape, "throughput_ratio_by_round") for shape in ("llava-1.5-7b", "paligemma-3b")
    )
    assert (
        f"LLaVA's are {llava} times plain vLLM's, PaliGemma's {paligemma}, and PaliGemma's time "
        f"per token {spread('paligemma-3b', 'time_per_token_ratio_spread')}."
    ) in " ".join(PAGE.split())
    short = result("throughput_paligemma-3b_five_rounds")
    rate, token = short["throughput_ratio"], short["time_per_token_ratio"]
    assert (
        f"was {rate['readouts']:.3f} and {rate['attention']:.3f} times plain vLLM's, a token took "
        f"{token['readouts']:.2f} and {token['attention']:.2f} times as long"
    ) in " ".join(PAGE.split())
    kept = result("throughput_llava-1.5-7b")["throughput_ratio"]
    assert (
        f"keeps {kept['readouts']:.2f} of plain vLLM's throughput with hidden states and "
        f"{kept['attention']:.2f} with attention too"
    ) in " ".join((ROOT / "README.md").read_text().split())


def test_a_steps_cost_on_the_host() -> None:
    whole = json.loads((RESULTS.parent / "plugin_step_cpu.json").read_text())
    cost = {part: micro / 1000 for part, micro in whole["microseconds_per_step"]["8"].items()}
    said(f"{cost['worker']:.2f} ms in the worker and {cost['scheduler']:.2f} ms in the scheduler")


def test_serving() -> None:
    rounds = result("serving")["rounds"]
    for count, by_server in rounds.items():
        middle = {
            name: {key: median(one[key] for one in told) for key in told[0]}
            for name, told in by_server.items()
        }
        gate, plain = middle["gate"], middle["vllm"]
        rate = [one["requests_per_second"] for one in (gate, plain)]
        said(f"| {count} | {rate[0]:.1f} | {rate[1]:.1f} | {rate[0] / rate[1]:.2f} |")
        for one in (gate, plain):
            said(f"| {one['p50_seconds']:.2f}, {one['p99_seconds']:.2f} |")
    pairs = zip(rounds["64"]["gate"], rounds["64"]["vllm"], strict=True)
    ratios = [one["requests_per_second"] / other["requests_per_second"] for one, other in pairs]
    said(f"the single rounds are {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    before = result("serving_small_cache")["ratio_at_64"]
    assert f"run gave {before:.2f} (`serving_small_cache.json`)" in " ".join(PAGE.split())
    assert not any(r["failed"] for s in rounds.values() for told in s.values() for r in told)


def test_processor_time_over_http() -> None:
    rounds = result("serving_cpu_toy", RESULTS.parent)["rounds"]["64"]
    gate, plain = (
        median(one["cpu_milliseconds_per_request"] for one in rounds[name])
        for name in ("gate", "vllm")
    )
    words = " ".join(PAGE.split())
    assert (
        f"{gate:.1f} ms of processor time per request, that of `vllm serve` {plain:.1f} ms" in words
    )


def test_agreement() -> None:
    models = [result(f"agreement_{name}") for name in ("llava", "qwen2vl", "paligemma")]

    def largest(found: dict[str, Any], name: str) -> float:
        batches = [found[f"vllm_batch_{size}"] for size in (1, 7, 8, 9, 65, 257)]
        return max(float(batch[name]) for batch in batches)

    def row(*values: float | str) -> None:
        said("| " + " | ".join(str(value) for value in values) + " |\n")

    row(*(f"{largest(found, 'readout_largest'):.4f}" for found in models))
    row(*(f"{found['transformers_bfloat16']['readout_largest']:.4f}" for found in models))
    row(*(f"{found['against_eager']['readout_largest']:.4f}" for found in models))
    row(*(f"{largest(found, 'attention_largest'):.4f}" for found in models))
    row(*(f"{100 * found['decisions']['same_answer']:.1f} %" for found in models))
    row(*(f"{100 * found['decisions']['same_decision']:.1f} %" for found in models))


def test_paligemma() -> None:
    words = " ".join(PAGE.split())
    scaled = result("agreement_paligemma_scaled")["decisions"]
    mended = result("agreement_paligemma")["decisions"]
    before, now = (f"{100 * each['same_answer']:.1f} %" for each in (scaled, mended))
    assert f"{before} of {scaled['questions']:,} questions; with both on {now}" in words
    on_cpu = result("vllm_agreement_paligemma_cpu", RESULTS.parent)
    assert on_cpu["decisions"]["same_answer"] == on_cpu["decisions"]["same_decision"] == 1.0
    assert f"readouts within {on_cpu['vllm_batch_9']['readout_largest']:.1e}," in words
    assert f"risks within {on_cpu['decisions']['risk_deviation_largest']:.1e}." in words


def test_graphs() -> None:
    whole = json.loads((RESULTS / "plugin_graph.json").read_text())
    step = whole["requests"]["8"]
    words = " ".join(PAGE.split())
    took = step["microseconds"]
    assert f"for {took['graph']:.0f} µs by its graph and for {took['plain']:.0f} µs" in words
    assert step["graphs"]
    assert not step["largest_deviation"]
    gpu = [took["graph_gpu"]]
    for shape in ("qwen2-vl-7b", "llava-1.5-7b"):
        whole = json.loads((RESULTS / f"plugin_graph_{shape}.json").read_text())
        assert whole["shape"] == shape
        gpu.append(whole["requests"]["8"]["microseconds"]["graph_gpu"])
    small, qwen, llava = (f"{each:.0f} µs" for each in gpu)
    assert f"takes {small} for it, in Qwen2-VL-7B's shape {qwen} and in LLaVA-1.5-7B's {llava}" in (
        words
    )


def test_two_gpus() -> None:
    small = result("two_gpus")
    one = small["against_one_gpu"]
    words = " ".join(PAGE.split())
    assert f"within {one['readout_largest']:.4f} of one GPU's" in words
    assert (one["same_answer"], one["questions"]) == (1.0, 65)
    assert (small["decisions"]["same_decision"], small["decisions"]["questions"]) == (1.0, 200)
    assert f"at {small['questions_per_second']:.0f} questions/s" in words
    large = result("two_gpus_throughput")
    rate, token = large["throughput_ratio"], large["time_per_token_ratio"]
    plain = median(large["requests_per_second"]["plain"])
    assert (
        f"plain {plain:.1f} requests/s, with readouts {rate['readouts']:.3f}, with attention "
        f"{rate['attention']:.3f} times that; a token takes {token['readouts']:.2f} and "
        f"{token['attention']:.2f} times" in words
    )


def test_soak() -> None:
    soak = result("soak")
    counts = soak["counts"]
    said(f"{counts['answered']:,} answers")
    said(f"{counts['left']:,} left, {counts['sampled']:,} sampled")
    said(f"{soak['preempted']:,} preemptions")
    assert counts["strange"] == counts["failed"] == soak["open"] == 0
    memory = [soak[f"memory_{when}_bytes"] for when in ("before", "middle", "after")]
    before, middle, after = (f"{each['host'] / 1e9:.3f} GB" for each in memory)
    said(f"Host memory {before} before, {middle} in the middle and {after} after")
    before, middle, after = (f"{each['cards'] / 1e9:.3f}" for each in memory)
    said(f"on the card {before}, {middle} and {after} GB")


def test_consistency() -> None:
    words = " ".join(PAGE.split())
    found = result("consistency")
    few, many = (found["at_once"][count]["cost"] for count in ("64", "256"))
    assert (
        f"`always` costs {few['always']:.2f} times one answer and `auto` {few['auto']:.2f} times, "
        f"with 256 at once {many['always']:.2f} and {many['auto']:.2f} times" in words
    )
    every, same = found["all_questions"], found["same_questions"]
    assert f"stopped after {every['always']['samples_per_question']:.1f} samples" in words
    assert f"sampled {100 * every['auto']['sampled_share']:.0f} % of the questions" in words
    never, auto, always = (100 * same[mode]["coverage"] for mode in ("never", "auto", "always"))
    assert f"same {same['never']['questions']} questions" in words
    assert f"accepted {never:.1f}, {auto:.1f} and {always:.1f} %" in words
