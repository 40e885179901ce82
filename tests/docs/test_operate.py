"""docs/operate.md: its alerts are the rules', and its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")


def test_every_alert_is_listed_as_it_is():
    rules = yaml.safe_load((ROOT / "helm" / "rules" / "alerts.yaml").read_text())["groups"]
    alerts = [rule for group in rules for rule in group["rules"]]
    listed = re.findall(r"^\| \[(\w+)\]\(\.\./deploy/runbooks/(\w+)\.md\) \| (\w+) \| (\w+) \|",
                        TEXT, re.MULTILINE)  # fmt: skip
    assert listed == [
        (rule["alert"], rule["alert"], rule["labels"]["severity"], rule.get("for", "0m"))
        for rule in alerts
    ]


def test_the_commands_run():
    (block,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    commands = block.strip().splitlines()
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "SUCCESS" in done.stdout


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
