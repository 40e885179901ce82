"""The rules as they are in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "helm" / "rules").glob("*.yaml"))


@pytest.fixture(scope="session")
def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    rules = [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    found = {rule["alert"]: rule for rule in rules if "alert" in rule}
    assert len(found) == sum("alert" in rule for rule in rules), "an alert's name is used twice"
    return found
