"""Headless Chromium for tests that look at pages as people do; `make browser` installs it."""

import json
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1600",
)  # fmt: skip

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here; on Debian, as root: make browser"
)


def open_browser(profile):
    """A browser of its own profile folder, which notes what pages log and ask for."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def complaints(browser):
    """What the page has logged as warnings and errors since the last look."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def requests(browser, page):
    """Addresses that the page at this address has asked for since the last look."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = (event["params"] for event in events if event["method"] == "Network.requestWillBeSent")
    return [ask["request"]["url"] for ask in asked if ask["documentURL"] == page]
