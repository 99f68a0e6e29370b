"""The report in a browser: every figure is drawn, nothing is asked from elsewhere, curves can be hovered and hidden."""

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from memsweep.analysis.report import report
from tests import browser as browsers
from tests.test_report import grid, store_of

pytestmark = browsers.needs_chromium
PLOT = "#generalization-test-accuracy .js-plotly-plot"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a sweep of two noise fractions, opened."""
    results = tmp_path_factory.mktemp("results")
    store_of(results, "generalization", [(trial, {"test_correct_count": 59 + 2 * trial.seed}) for trial in grid()])
    browser = browsers.open_browser(tmp_path_factory.mktemp("profile"))
    browser.get(report.write(results).as_uri())
    WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{PLOT} .scatterlayer"))
    yield browser
    browser.quit()


def visible(page):
    return page.execute_script(f"return document.querySelector({PLOT!r}).data.map(t => t.visible ?? true)")


def test_every_figure_is_drawn_without_complaint(page):
    figures = page.find_elements(By.CSS_SELECTOR, "figure")
    assert len(figures) == 4
    for figure in figures:  # each is drawn when it comes near
        page.execute_script("arguments[0].scrollIntoView()", figure)
        WebDriverWait(page, 30).until(lambda _, figure=figure: figure.find_elements(By.CSS_SELECTOR, ".main-svg"))
    page.execute_script("scrollTo(0, 0)")
    drawn = page.find_elements(By.CSS_SELECTOR, "figure .js-plotly-plot .main-svg")
    assert len({svg.find_element(By.XPATH, "./ancestor::figure").get_attribute("id") for svg in drawn}) == 4
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


FITS = "return document.documentElement.scrollWidth <= window.innerWidth"


@pytest.fixture
def phone(page):
    """A screen 360 points wide; afterwards the old one."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    page.refresh()
    yield page
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def dark(page):
    """A reader who wants pages dark; afterwards the old one."""
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    yield page
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def wait_for_plot(page):
    WebDriverWait(page, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{PLOT} .scatterlayer"))


def test_a_phone_shows_the_page_without_scrolling_sideways(phone):
    wait_for_plot(phone)
    assert phone.execute_script("return innerWidth") == 360
    WebDriverWait(phone, 10).until(lambda b: b.execute_script(FITS))
    plot = phone.find_element(By.CSS_SELECTOR, f"{PLOT} .main-svg")
    assert 250 < plot.size["width"] <= 360


def test_a_phone_hides_the_contents_until_asked(phone):
    wait_for_plot(phone)
    contents = phone.find_element(By.CSS_SELECTOR, "nav details")
    assert contents.get_attribute("open") is None
    contents.find_element(By.CSS_SELECTOR, "summary").click()
    link = contents.find_element(By.LINK_TEXT, "generalization")
    assert link.is_displayed()
    link.click()
    assert contents.get_attribute("open") is None
    assert phone.current_url.endswith("#sweep-generalization")


def test_the_contents_lead_to_every_sweep_and_figure(page):
    targets = page.execute_script(
        "return [...document.querySelectorAll('nav a')].map(a => decodeURIComponent(a.hash.slice(1)))"
    )
    assert [target for target in targets if not page.find_elements(By.ID, target)] == []
    figures = {figure.get_attribute("id") for figure in page.find_elements(By.CSS_SELECTOR, "figure")}
    assert figures | {"overview", "sweep-generalization"} == set(targets)


def contrast(page, one, other):
    """Of two colours, as WCAG defines it."""
    return page.execute_script(
        """
        const rgb = text => text.match(/[0-9.]+/g).slice(0, 3).map(c => c / 255);
        const [a, b] = [...arguments].map(text => luminance(text.startsWith("#") ? channels(text) : rgb(text)));
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        """,
        one,
        other,
    )


def test_in_the_dark_the_page_and_its_curves_can_be_seen(page, dark):
    WebDriverWait(page, 10).until(
        lambda b: b.execute_script(f"return document.querySelector({PLOT!r}).layout.paper_bgcolor") == "#15191f"
    )
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    ink = page.execute_script("return getComputedStyle(document.body).color")
    assert contrast(page, ink, ground) > 7
    curves = page.execute_script(f"return document.querySelector({PLOT!r}).data.map(t => t.line.color)")
    assert len(curves) == 2 and all(contrast(page, curve, ground) >= 4.4 for curve in curves)
    for name in ("h2", "figcaption", "nav a", "th", ".plot text"):
        colour = page.execute_script(
            "const style = getComputedStyle(document.querySelector(arguments[0]));"
            "return style.fill === 'rgb(0, 0, 0)' ? style.color : style.fill",
            name,
        )
        assert contrast(page, colour, ground) > 4.5, name


def test_after_the_dark_curves_have_their_own_colours_again(page, dark):
    WebDriverWait(page, 10).until(
        lambda b: b.execute_script(f"return document.querySelector({PLOT!r}).layout.paper_bgcolor") == "#15191f"
    )
    lightened = page.execute_script(f"return document.querySelector({PLOT!r}).data.map(t => t.line.color)")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    WebDriverWait(page, 10).until(
        lambda b: b.execute_script(f"return document.querySelector({PLOT!r}).layout.paper_bgcolor") == "#ffffff"
    )
    drawn, own = page.execute_script(
        f"const place = document.querySelector({PLOT!r}); return [place.data, described(place).data]"
    )
    assert [trace["line"]["color"] for trace in drawn] == [trace["line"]["color"] for trace in own]
    assert any(trace["line"]["color"] != in_the_dark for trace, in_the_dark in zip(own, lightened, strict=True))


def said(page):
    return page.find_element(By.ID, "announcement").get_attribute("textContent")


def test_by_keyboard_points_are_told_and_curves_hidden(page):
    plot = page.find_element(By.CSS_SELECTOR, PLOT)
    page.execute_script("arguments[0].focus()", plot)
    keys = ActionChains(page)
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    assert said(page) == "0.6 at 0.2"
    WebDriverWait(page, 10).until(lambda b: b.find_elements(By.CSS_SELECTOR, f"{PLOT} .hoverlayer .hovertext"))
    keys.reset_actions()
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    assert said(page) == "0.6 at 0.4"
    keys.reset_actions()
    keys.send_keys(Keys.ARROW_DOWN).perform()
    assert said(page).startswith("chance: 0.1 at")
    keys.reset_actions()
    keys.send_keys(Keys.ENTER).perform()
    WebDriverWait(page, 10).until(lambda b: visible(b) == [True, "legendonly"])
    assert said(page) == "chance hidden"
    keys.reset_actions()
    keys.send_keys(Keys.ESCAPE).perform()
    WebDriverWait(page, 10).until(lambda b: visible(b) == [True, True])


def test_plotlys_own_buttons_keep_their_keys(page):
    button = page.find_element(By.CSS_SELECTOR, f"{PLOT} .modebar-btn[data-title^='Zoom in']")
    before = page.execute_script(f"return document.querySelector({PLOT!r}).layout.xaxis.range")
    page.execute_script("arguments[0].focus()", button)
    ActionChains(page).send_keys(Keys.ENTER).perform()
    WebDriverWait(page, 10).until(
        lambda b: b.execute_script(f"return document.querySelector({PLOT!r}).layout.xaxis.range") != before
    )
    assert visible(page) == [True, True]


def test_everything_is_reached_by_tab_and_has_a_name(page):
    """Links, plots, tables that scroll: each can be focused, and says what it is."""
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    page.execute_script("document.querySelector('.skip').focus()")
    skip = page.switch_to.active_element
    assert skip.text == "Skip to the figures" and skip.location["x"] >= 0
    nameless = page.execute_script(
        "const named = e => e.matches('.plot, .scroll') ? e.getAttribute('aria-label') : "
        "e.getAttribute('aria-label') || e.alt || e.textContent.trim() || e.dataset.title;"
        "return [...document.querySelectorAll('a, summary, .plot, .scroll, img')].filter(e => !named(e)).length"
    )
    assert nameless == 0
    assert page.execute_script("return [...document.querySelectorAll('.plot')].every(e => e.tabIndex === 0)")


def test_printed_figures_are_the_files_of_a_paper(page):
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    twins = page.find_elements(By.CSS_SELECTOR, "figure > .twin")
    assert len(twins) == 4
    assert all(
        twin.get_attribute("src").startswith("data:image/svg+xml") and twin.get_attribute("alt") for twin in twins
    )
    WebDriverWait(page, 10).until(lambda b: b.execute_script("return arguments[0].naturalWidth", twins[0]) > 100)
