"""The report's page in a real browser: nothing on the console, nothing wider than the window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver

from probes.judge.evaluate import evaluate
from probes.report.cards import Shown
from probes.report.report import load_evaluation, report
from probes.types import AttentionMaps

WITHOUT = "TESTS_WITHOUT_CHROMIUM"
FIVE_MEGABYTES = 5_000_000


@pytest.fixture(scope="module")
def page(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    evaluate(run.store, run.certified, root / "evaluation", resamples=20)
    evaluation, _ = load_evaluation(root / "evaluation")
    image = np.full((300, 500, 3), 90, dtype=np.uint8)
    maps = AttentionMaps((1,), np.ones((1, 64)), np.arange(64.0)[None], (8, 8))
    shown = [Shown(one, image, maps) for one in evaluation["examples"]]
    return report(root / "evaluation", root / "report", shown) / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if os.environ.get(WITHOUT):
        pytest.skip(f"{WITHOUT} is set")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail(f"install Debian's chromium and chromium-driver, or set {WITHOUT}=1")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "hide-scrollbars",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        yield chrome


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_fits_the_window_and_the_console_stays_empty(
    browser: webdriver.Chrome, page: Path, width: int, scheme: str
) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.as_uri())
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    sticking_out = """return [...document.querySelectorAll('body *')].filter(
        e => !e.closest('.scroll, svg') && e.getBoundingClientRect().right > innerWidth + 0.5
    ).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.execute_script(sticking_out) == []
    dark = (
        sum(
            browser.execute_script(
                "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
            )
        )
        < 3 * 128
    )
    assert dark == (scheme == "dark")
    assert browser.get_log("browser") == []
    images = "return [...document.images].map(i => i.naturalWidth)"
    assert all(browser.execute_script(images))


def test_is_one_small_file(page: Path) -> None:
    assert page.stat().st_size < FIVE_MEGABYTES
