"""Lets a CUDA build of torchvision be imported beside a CPU build of torch.

For the test environment of the vLLM engine only: PyPI's torchvision declares operators that only
its CUDA library defines, and fails to import without. Two declarations are enough. ``make
test-vllm`` has Python run this at its start, in every process of that environment.
"""

from __future__ import annotations

import sys
from typing import Any

NAMES = ("nms", "qnms")


class Declare:
    """Declares the operators just before torchvision is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            # Kept for good: the declarations end with the library.
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in NAMES:
                self.library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
            sys.modules[__name__].declare = self  # type: ignore[attr-defined]


sys.meta_path.insert(0, Declare())
