"""Settings: documented, read from environment and TOML, refused with a name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, get_origin

import pytest

from service.settings import PREFIX, Settings, SettingsError, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def test_every_setting_is_documented_and_nothing_else():
    rows = re.findall(r"^\| `(VLM_GATE_\w+)` \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE)
    names = {PREFIX + field.upper() for field in Settings.model_fields}
    assert {name for name, _ in rows} == names | {"VLM_GATE_CONFIG"}


def test_every_default_is_the_documented_one():
    rows = re.findall(r"^\| `VLM_GATE_(\w+)` \| `(.*?)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) >= 12
    for name, documented in rows:
        default = Settings.model_fields[name.lower()].default
        assert documented == (
            str(default).removesuffix(".0").replace("False", "false").replace("True", "true")
        )


def test_every_choice_is_documented():
    text = DOCUMENT.read_text()
    for field in Settings.model_fields.values():
        if get_origin(field.annotation) is not Literal:
            continue
        for choice in field.annotation.__args__:
            assert f"`{choice}`" in text


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path):
    config = tmp_path / "gate.toml"
    config.write_text('port = 9000\nmode = "shadow"\n')
    monkeypatch.setenv("VLM_GATE_CONFIG", str(config))
    monkeypatch.setenv("VLM_GATE_PORT", "9001")
    settings = load_settings()
    assert (settings.port, settings.mode) == (9001, "shadow")


def test_defaults_lie_in_the_testbed_package():
    settings = load_settings()
    assert settings.model.endswith("testbed/models/llava")
    assert settings.bundle.parts[-3:] == ("testbed", "bundles", "llava")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "high", "VLM_GATE_PORT"),
        ("PORT", "70000", "VLM_GATE_PORT"),
        ("MODE", "loud", "VLM_GATE_MODE"),
        ("PROT", "8080", "VLM_GATE_PROT is not a setting"),
        ("CONFIG", "/nowhere.toml", "VLM_GATE_CONFIG"),
        ("HOST", "0.0.0.0", "VLM_GATE_ALLOW_UNAUTHENTICATED=true"),
        ("HOST", "gate.example", "VLM_GATE_ALLOW_UNAUTHENTICATED=true"),
        ("HOST", "::", "VLM_GATE_ALLOW_UNAUTHENTICATED=true"),
    ],
)
def test_a_bad_setting_is_named(monkeypatch, name, value, said):
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings()


@pytest.mark.parametrize("content", ["port = ", "prot = 1", "port = 'x'"])
def test_a_bad_file_is_refused(monkeypatch, tmp_path, content):
    config = tmp_path / "gate.toml"
    config.write_text(content)
    monkeypatch.setenv("VLM_GATE_CONFIG", str(config))
    with pytest.raises(SettingsError, match=r"VLM_GATE_(CONFIG|PROT|PORT)"):
        load_settings()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_consent(monkeypatch, host):
    monkeypatch.setenv("VLM_GATE_HOST", host)
    assert load_settings().host == host


def test_consent_opens_the_host(monkeypatch):
    monkeypatch.setenv("VLM_GATE_HOST", "0.0.0.0")
    monkeypatch.setenv("VLM_GATE_ALLOW_UNAUTHENTICATED", "true")
    assert load_settings().host == "0.0.0.0"
