"""The report as a browser shows it: on a desktop, on a phone and printed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.report import page as report_page
from tests.test_report import EXERCISES, fabricate, fabricate_project

CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDE = {**{f"units_{i}": 64 for i in range(14)}, "activation": "relu", "learning_rate": 0.01}
SCREENS = {
    "desktop": (1280, 900, "screen"),
    "phone": (360, 740, "screen"),
    "print": (673, 980, "print"),
}  # A4 less margins

# What a reader would miss: an element that ends beyond the page and that nothing scrolls into view, text cut by its box.
CUT_OFF = """
const width = document.documentElement.clientWidth, found = [];
for (const element of document.body.querySelectorAll("*")) {
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height) continue;
  const scrolled = element.closest(".scroll");
  const scrolls = scrolled && getComputedStyle(scrolled).overflowX === "auto" && scrolled.getBoundingClientRect().right <= width + 1;
  if ((box.right > width + 1 || box.left < -1) && !(scrolls && element !== scrolled)) found.push([element.tagName, element.textContent.slice(0, 60), box.right]);
}
return found;
"""

# Numbers on more than one line.
BROKEN = """
return [...document.querySelectorAll(".numbers td:not(.sentence)")].filter(cell => {
  const range = document.createRange();
  if (!cell.firstChild) return false;
  range.selectNodeContents(cell.firstChild);
  return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1;
}).map(cell => cell.textContent);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chrome = next((path for name in CHROMES if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if chrome is None or driver is None:
        pytest.skip("no Chromium with its chromedriver is installed (Debian: apt install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    results = tmp_path_factory.mktemp("pages")
    for name in EXERCISES:
        fabricate(results, name)
    return {
        "lab": report_page.write_lab_report(results),
        "exercise": report_page.write_report(results / "multiclass"),
        "wide": report_page.write_report(fabricate(results / "many", "hidden", start=WIDE)),
        "search": report_page.write_search_report(fabricate_project(results / "project")),
    }


@pytest.mark.long
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page", ["lab", "exercise", "wide", "search"])
def test_a_page_is_shown_whole(browser: Any, pages: dict[str, Path], page: str, screen: str) -> None:
    width, height, medium = SCREENS[screen]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium})
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of the page before
    browser.get(pages[page].as_uri())
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    fetched = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert [message for message in fetched if '"url":"data:' not in message and pages[page].name not in message] == []
    assert browser.execute_script(CUT_OFF) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    images = browser.execute_script(
        "return [...document.images].map(i => [i.alt, i.complete && i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert images
    for text, natural, shown in images:
        assert len(text) > 10
        assert natural > 0
        assert 0 < shown <= width
    if medium == "print":
        assert browser.execute_script(BROKEN) == []
        assert max(browser.execute_script("return [...document.images].map(i => i.offsetHeight)")) < 0.8 * height
    assert len({text for text, *_ in images}) >= (3 if page == "lab" else 2)
