"""The report in a browser: every figure is drawn, nothing is asked from elsewhere, curves can be hovered and hidden."""

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from analysis import report
from tests import browser as browsers
from tests.test_report import grid, store_of

pytestmark = browsers.needs_chromium
PLOT = "#generalization-test-accuracy .js-plotly-plot"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a sweep of two noise fractions, opened."""
    results = tmp_path_factory.mktemp("results")
    store_of(results, "generalization", [(trial, {}) for trial in grid()])
    browser = browsers.open_browser(tmp_path_factory.mktemp("profile"))
    browser.get(report.write(results).as_uri())
    WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{PLOT} .scatterlayer"))
    yield browser
    browser.quit()


def visible(page):
    return page.execute_script(f"return document.querySelector({PLOT!r}).data.map(t => t.visible ?? true)")


def test_every_figure_is_drawn_without_complaint(page):
    figures = page.find_elements(By.CSS_SELECTOR, "figure")
    assert len(figures) == 7
    drawn = page.find_elements(By.CSS_SELECTOR, "figure .js-plotly-plot .main-svg")
    assert len({svg.find_element(By.XPATH, "./ancestor::figure").get_attribute("id") for svg in drawn}) == 7
    assert browsers.complaints(page) == []


def test_nothing_is_asked_from_elsewhere(page):
    page.refresh()
    WebDriverWait(page, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{PLOT} .scatterlayer"))
    asked = browsers.requests(page, page.current_url)
    assert [url for url in asked if not url.startswith(("file:///", "data:"))] == []
    assert sum(url.startswith("file:///") for url in asked) >= 1


def test_a_name_in_the_legend_hides_its_curve_and_brings_it_back(page):
    name = page.find_element(By.CSS_SELECTOR, f"{PLOT} .legendtoggle")
    assert visible(page) == [True, True]
    ActionChains(page).move_to_element(name).click().perform()
    WebDriverWait(page, 10).until(lambda b: "legendonly" in visible(b))
    ActionChains(page).move_to_element(name).click().perform()
    WebDriverWait(page, 10).until(lambda b: visible(b) == [True, True])


def test_a_point_tells_its_value_when_hovered(page):
    point = page.find_element(By.CSS_SELECTOR, f"{PLOT} .scatterlayer .point")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(page).move_to_element(point).perform()
    label = WebDriverWait(page, 10).until(lambda b: b.find_element(By.CSS_SELECTOR, f"{PLOT} .hoverlayer .hovertext"))
    assert "0.6" in label.text


def test_nothing_can_be_sent_away(page):
    names = [
        button.get_attribute("data-title") for button in page.find_elements(By.CSS_SELECTOR, f"{PLOT} .modebar-btn")
    ]
    assert names and not any("cloud" in name.lower() or "share" in name.lower() for name in names)


def test_a_phone_shows_the_page_without_scrolling_sideways(page):
    page.set_window_size(500, 900)
    fits = "return document.documentElement.scrollWidth <= window.innerWidth"
    WebDriverWait(page, 10).until(lambda b: b.execute_script(fits))
