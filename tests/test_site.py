"""`make docs` builds the site without warnings, and two clicks or a search lead to the answers of common questions."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from html.parser import HTMLParser

import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from docs.docstrings import formatted
from docs.top_pages import PAGES, relinked
from tests.browser import complaints, needs_chromium, open_browser, requests
from tests.pages import NAMES, ROOT

QUESTIONS = {
    # what is searched for: the page and heading that answer it
    "add regularizer": ("how-to/extend.html", "add-a-regularizer"),
    "add table column": ("how-to/extend.html", "add-a-table-column"),
    "add figure": ("how-to/extend.html", "add-a-figure"),
    "worker dies": ("explanation/storage.html", "a-worker-dies"),
    "use own data": ("how-to/own-data.html", "use-your-own-data"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0 and "WARNING" not in ended.stderr, ended.stderr
    return folder


class Anchors(HTMLParser):
    """Targets of all links of a page, and the ids of its elements."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.loaded = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        if tag == "a":
            self.links.add(values.get("href"))
        elif tag in ("script", "img", "link", "iframe"):
            self.loaded.add(values.get("src") or values.get("href"))


def page(site, name):
    return Anchors((site / name).read_text("utf-8"))


def test_every_page_is_in_the_site(site):
    expected = {PAGES.get(name, name.removeprefix("docs/")) for name in NAMES if not name.startswith("tests/")}
    assert {name for name in expected if not (site / name).with_suffix(".html").exists()} == set()


@pytest.mark.parametrize(("name", "heading"), QUESTIONS.values(), ids=QUESTIONS)
def test_two_clicks_lead_to_an_answer(site, name, heading):
    """A page in the home page's navigation, then a heading in that page's contents."""
    assert name in page(site, "index.html").links
    answer = page(site, name)
    assert heading in answer.ids
    assert f"#{heading}" in answer.links


@pytest.mark.parametrize("words", QUESTIONS)
def test_the_search_index_has_the_words_of_a_question_in_a_title(site, words):
    name, heading = QUESTIONS[words]
    index = json.loads((site / "search/search_index.json").read_text())["docs"]
    found = [entry["location"] for entry in index if set(words.split()) <= set(entry["title"].lower().split())]
    assert {name, f"{name}#{heading}"} & set(found)


def test_nothing_is_loaded_from_other_hosts(site):
    for path in site.rglob("*.html"):
        loaded = Anchors(path.read_text("utf-8")).loaded - {None}
        assert not [address for address in loaded if "//" in address], path


def test_the_python_interface_shows_docstrings(site):
    text = re.sub(r"<[^>]+>", "", (site / "api.html").read_text("utf-8"))
    assert "Runs the missing trials of one or several sweeps" in text and "&gt;&gt;&gt; report" in text


def test_links_of_the_repository_become_links_of_the_site():
    assert relinked("[a](docs/how-to/search.md#x) [b](#y)", "index.md") == "[a](how-to/search.md#x) [b](#y)"
    assert relinked("[a](../../CONTRIBUTING.md)", "how-to/extend.md") == "[a](../contributing.md)"
    assert relinked('<img src="docs/images/a.svg">', "index.md") == '<img src="images/a.svg">'
    assert relinked("[a](https://duckdb.org/docs)", "index.md") == "[a](https://duckdb.org/docs)"


def test_arguments_of_docstrings_become_lists():
    docstring = "Returns x.\n\na: first.  b: second\nline.\nRaises E.\n\n>>> f()\n1"
    lines = [line for line in formatted(docstring, ["a", "b"]).splitlines() if line]
    assert lines[:5] == ["Returns x.", "- `a`: first.", "- `b`: second", "line.", "Raises E."]
    assert lines[5:] == ["```pycon", ">>> f()", "1", "```"]


@pytest.fixture(scope="module")
def address(site):
    """The site on a port of this machine, since browsers search no pages that are opened as files."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that logs nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@needs_chromium
@pytest.mark.parametrize("words", QUESTIONS)
def test_a_search_leads_to_an_answer(address, browser, words):
    """The words, then a click on one of the first results."""
    name, _ = QUESTIONS[words]
    browser.get(f"{address}/index.html")
    field = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    browser.execute_script("document.querySelector('#__search').click()")
    WebDriverWait(browser, 20).until(lambda _: field.is_displayed())
    field.send_keys(words)
    # read at once, in the page: results are drawn anew while words are typed
    script = "return [...document.querySelectorAll('.md-search-result__link')].slice(0, 4).map(link => link.href)"
    with suppress(TimeoutException):
        WebDriverWait(browser, 20).until(lambda _: any(f"/{name}" in link for link in browser.execute_script(script)))
    first = browser.execute_script(script)
    assert any(f"/{name}" in link for link in first), first


@needs_chromium
@pytest.mark.parametrize("width", [1400, 390])
def test_pages_fit_the_screen(address, browser, width):
    """Also a phone's; wide tables and code scroll by themselves, and nothing is asked of other hosts."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    complaints(browser)
    for name in ("index.html", "tutorial.html", "tables.html", "science.html", "benchmarks.html", "api.html"):
        browser.get(f"{address}/{name}")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        asked = requests(browser, f"{address}/{name}")
        assert [link for link in asked if link.startswith("http") and not link.startswith(f"{address}/")] == []
    assert complaints(browser) == []
