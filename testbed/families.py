"""The families by name."""

from __future__ import annotations

from testbed.family import Family
from testbed.llava import Llava
from testbed.paligemma import PaliGemma
from testbed.qwen2vl import Qwen2VL

FAMILIES: dict[str, Family] = {family.name: family for family in (Llava(), PaliGemma(), Qwen2VL())}
