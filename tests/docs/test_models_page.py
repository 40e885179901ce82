"""The table of full sizes says what its results say."""

from __future__ import annotations

import json

from benchmarks.host import ROOT


def test_full_sizes_are_quoted_from_their_results() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    results = json.loads((ROOT / "benchmarks" / "results" / "full_size_h100.json").read_text())
    assert results["models"]
    for model in results["models"]:
        row = (
            f"| {model['model']} | {model['image_tokens']} | {model['questions_per_second']:.1f} "
            f"| {model['peak_gpu_gib']:.1f} | {model['store_bytes_per_question']:,} |"
        )
        assert row in page, row
