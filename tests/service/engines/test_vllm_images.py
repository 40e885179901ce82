"""PaliGemma's image features, on a stand-in of vLLM's model with and without its stale scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from service.engines.vllm_plugin import compat, images

WIDTH = 192


class PaliGemmaForConditionalGeneration(torch.nn.Module):
    """As vLLM's, with a tower that hands pixels on."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def _parse_and_validate_image_input(self, **inputs: Any) -> dict[str, Any] | None:
        for name, data in inputs.items():
            if data is not None:
                return {"type": name, "data": data}
        return None

    def _process_image_input(self, image: dict[str, Any]) -> torch.Tensor:
        features: torch.Tensor = image["data"]
        return features if image["type"] == "image_embeds" else 3 * features

    def embed_multimodal(self, **inputs: Any) -> Any:
        image = self._parse_and_validate_image_input(**inputs)
        if image is None:
            return []
        features = self._process_image_input(image)
        return features if self.scale == 1.0 else features * self.scale


def test_stale_scale_is_taken_off() -> None:
    model = PaliGemmaForConditionalGeneration(WIDTH**-0.5)
    pixels = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    assert images.unscaled(model, WIDTH)
    assert torch.equal(model.embed_multimodal(pixel_values=pixels), 3 * pixels)
    assert model.embed_multimodal(pixel_values=None) == []
    assert not images.unscaled(model, WIDTH)  # the second time there is nothing to mend


def test_model_without_it_is_left_alone() -> None:
    model = PaliGemmaForConditionalGeneration(1.0)
    assert not images.unscaled(model, WIDTH)
    assert "embed_multimodal" not in vars(model)


def test_other_models_are_left_alone() -> None:
    assert not images.unscaled(torch.nn.Linear(2, 2), WIDTH)


def test_a_model_without_the_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(holder: Any, path: str) -> Any:
        raise compat.Incompatible(path)

    monkeypatch.setattr(compat, "need", missing)
    with pytest.raises(compat.Incompatible, match="_parse_and_validate_image_input"):
        images.unscaled(PaliGemmaForConditionalGeneration(0.5), WIDTH)
