"""What ships fits together, and what does not fit is refused with the field's name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from probes.errors import BundleError
from probes.model.bundle import check_identity
from probes.model.folder import read_bundle
from service.settings import embedded

BUNDLE, MODEL = Path(embedded("bundles", "llava")), Path(embedded("models", "llava"))


def test_model_is_small_and_named_as_published() -> None:
    weights = MODEL / "model.safetensors"
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 12_000_000
    with safe_open(weights, "pt") as tensors:
        names = set(tensors.keys())
        parameters = 0
        for name in names:
            size = 1
            for side in tensors.get_slice(name).get_shape():
                size *= side
            parameters += size
    assert parameters < 8_000_000
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in names
    assert "vision_tower.vision_model.embeddings.patch_embedding.weight" in names
    assert "multi_modal_projector.linear_1.weight" in names
    assert "language_model.lm_head.weight" in names


def test_bundle_is_bound_to_the_model_that_ships() -> None:
    bundle = read_bundle(BUNDLE)
    config = json.loads((MODEL / "config.json").read_text())
    assert bundle.model.layers == config["text_config"]["num_hidden_layers"]
    check_identity(bundle, bundle.model)


@pytest.mark.parametrize(
    ("field", "value"),
    [("revision", "0" * 64), ("layers", 32), ("dtype", "bfloat16"), ("engine", "vllm")],
)
def test_another_model_is_refused(field: str, value: object) -> None:
    bundle = read_bundle(BUNDLE)
    other = replace(bundle.model, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=rf"model\.{field}"):
        check_identity(bundle, other)


def test_one_flipped_byte_is_refused(tmp_path: Path) -> None:
    for name in ("manifest.json", "tensors.safetensors"):
        folder = tmp_path / name
        shutil.copytree(BUNDLE, folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(BundleError, match=name):
            read_bundle(folder)
