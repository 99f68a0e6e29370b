"""MLflow in a browser: the trials of a launched sweep are in its table, grouped by setting, and have their curves."""

import re
import subprocess
import sys
import urllib.request

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import browser as browsers
from tests.processes import free_port

pytestmark = [browsers.needs_chromium, pytest.mark.timeout(400), pytest.mark.usefixtures("tracked")]
PATIENCE = 60  # seconds; the page is several megabytes of script


def memsweep(*arguments):
    command = [sys.executable, "-m", "memsweep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL, check=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory, tracked, ray_address):
    """Of the smoke sweep's runs, at a server of the test's own."""
    results = tmp_path_factory.mktemp("results")
    memsweep("launch", "smoke", "--results", results, "--address", ray_address)
    memsweep("track", "--results", results)
    command = [sys.executable, "-m", "memsweep", "ui", "--results", results, "--port", free_port()]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as ui:
        yield ui.stdout.readline().split()[0]
        ui.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = browsers.open_browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.quit()


def text_with(browser, *words):
    """The page's text once all words are in it."""

    def shown(browser):
        text = browser.find_element(By.TAG_NAME, "body").text
        return text if all(word in text for word in words) else False

    return WebDriverWait(browser, PATIENCE).until(shown, f"never on the page: {words}")


def test_the_table_shows_the_trials_of_each_setting(browser, address):
    browser.get(address)
    text = text_with(browser, "noise0.5 wd0.01 s2")
    assert len(set(re.findall(r"noise\S+ wd\S+ s\d", text))) == 12


def test_the_saved_view_groups_trials_by_setting(browser, address):
    browser.get(address.replace("memsweep-trials", "memsweep-settings"))
    text_with(browser, "Group: noise_fraction=0.5 weight_decay=0.01")


def test_a_run_shows_its_curves(browser, address):
    browser.get(address)
    text_with(browser, "s2")
    link = browser.find_element(By.PARTIAL_LINK_TEXT, "noise0.5 wd0 s1")
    run = link.get_attribute("href")
    browser.get(run.replace("?", "/model-metrics?") if "?" in run else f"{run}/model-metrics")
    text_with(browser, "validation_accuracy", "memorized_share")
    curves = "return document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length"
    WebDriverWait(browser, PATIENCE).until(lambda b: b.execute_script(curves) >= 3)


def test_the_page_listens_on_this_machine_alone(address):
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address.partition("/#")[0], timeout=30) as page:
        assert page.status == 200
