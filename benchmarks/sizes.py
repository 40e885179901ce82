"""Sizes of published models, by their config.json: what every checkpoint of that size has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Size:
    """One model's.

    Args:
        text: of the decoder's configuration.
        vision: of the vision tower's.
    """

    text: Mapping[str, Any]
    vision: Mapping[str, Any]


LLAVA_7B = Size(
    text={
        "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    },
    vision={
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
    },
)  # fmt: skip
PALIGEMMA_3B = Size(
    text={
        "vocab_size": 257216, "hidden_size": 2048, "intermediate_size": 16384,
        "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
        "head_dim": 256,
    },
    vision={
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "patch_size": 14,
    },
)  # fmt: skip
QWEN2_VL_7B = Size(
    text={
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        "rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    },
    vision={
        "depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 3584, "mlp_ratio": 4,
        "patch_size": 14, "spatial_merge_size": 2,
    },
)  # fmt: skip
