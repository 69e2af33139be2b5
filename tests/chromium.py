"""Debian's chromium through selenium, on a page in a file: at a size, light or dark, with what it says on its console."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from pathlib import Path

import pytest

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def needed():
    """Skips where there is no browser, and says what is missing."""
    missing = [str(path) for path in (BROWSER, DRIVER) if not path.exists()] + ["selenium"] * (importlib.util.find_spec("selenium") is None)
    if missing:
        pytest.skip(f"no browser: {', '.join(missing)} missing (apt install chromium chromium-driver; pip install '.[browser]')")


@contextlib.contextmanager
def opened(page, width=1200, height=900, dark=False):
    """The page in a browser."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(BROWSER)
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            wanted = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
            driver.get(Path(page).resolve().as_uri())
            yield driver
        finally:
            driver.quit()


def quiet(driver):
    """Asserts that the page said nothing on the console and asked for nothing outside of itself."""
    assert driver.get_log("browser") == []
    asked = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith("data:") for name in asked), asked


def overflows(driver):
    """Whether the page is wider than the window."""
    return driver.execute_script("return document.documentElement.scrollWidth > document.documentElement.clientWidth")
