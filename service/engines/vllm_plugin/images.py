"""PaliGemma's image features at the size that the model was trained with.

Some versions of vLLM (0.26 among them) divide them by sqrt(hidden size), and nobody multiplies
again, so that the image is all but unseen: https://github.com/vllm-project/vllm/issues/52667.
"""

from __future__ import annotations

from typing import Any

import torch

from service.engines.vllm_plugin import compat

MODELS = ("PaliGemmaForConditionalGeneration",)


def unscaled(model: Any, width: int) -> bool:
    """Have a model hand out image features as its projector makes them. True if that was needed.

    Args:
        model: as vLLM loaded it; any but PaliGemma is left alone.
        width: hidden size of its decoder.
    """
    if type(model).__name__ not in MODELS:
        return False
    # Features that are handed in skip tower and projector: what comes out is the scale.
    ones = torch.ones(1, 1, width)
    if torch.equal(torch.as_tensor(model.embed_multimodal(image_embeds=ones)), ones):
        return False
    parsed = compat.need(model, "_parse_and_validate_image_input")
    features = compat.need(model, "_process_image_input")

    def embed_multimodal(**inputs: object) -> Any:
        image = parsed(**inputs)
        return [] if image is None else features(image)

    model.embed_multimodal = embed_multimodal
    return True
