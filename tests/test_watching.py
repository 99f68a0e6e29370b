"""The watched report: served on this machine, drawn again when its rows change, with curves of trials in training."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

import pytest

from memsweep.analysis.core import figures
from memsweep.analysis.report import report, watching
from memsweep.analysis.report.unchanged import Unchanged
from memsweep.results.storage.snapshot import Snapshot
from tests.test_live import SWEEP, begun, shown_at_once, store  # noqa: F401  fixtures
from tests.test_report import grid, store_of

pytestmark = pytest.mark.usefixtures("svg_alone")
CURVES = "in-training-live-accuracy"


@contextmanager
def watched(results):
    """`memsweep report --watch` in a process of its own, and its address."""
    command = [sys.executable, "-m", "memsweep", "report", "--watch", "--results", str(results)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def fetched(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
        return answer.read().decode()


def refused(address, **options):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(urllib.request.Request(address, **options), timeout=20)
    error.value.close()
    return error.value.code


def after(version, address):
    """The version that follows this one."""
    until = time.monotonic() + 60
    while (newest := fetched(f"{address}version")) == version:
        assert time.monotonic() < until
        time.sleep(0.2)
    return newest


def plots(page):
    texts = re.findall(r'<script type="application/json" id="(.*?)-data">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in texts}


def lengths(page):
    """Points of each curve of trials in training; the legend's lines have one."""
    return [len(trace["x"]) for trace in plots(page)[CURVES]["data"] if trace["x"] != [None]]


def test_a_watched_page_follows_trials_in_training(store):  # noqa: F811
    training = begun(SWEEP.trials, store, chunks=2)
    there = set(os.listdir(store.results))
    with watched(store.results) as (process, address):
        first = after("none", address)
        page = fetched(address)
        assert 'id="in-training"' in page and "3 trials are in training, all drawn." in page
        assert f'data-version="{first}"' in page and "connect-src 'self'" in page
        before = lengths(page)
        assert len(before) == 6 and min(before) > 0
        next(training)
        second = after(first, address)
        assert min(lengths(fetched(address))) > max(before)
        list(training)
        after(second, address)
        page = fetched(address)
        assert 'id="in-training"' not in page and "live-validation-accuracy" in plots(page)

        assert refused(f"{address}../wanted") == refused(f"{address}report.html") == 404
        assert refused(address, headers={"Host": "example.org"}) == 403
        assert refused(address, data=b"") == 501
        assert set(os.listdir(store.results)) == there | {"packs", "trials", "steps"}
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (0, "")


def test_a_written_page_has_the_curves_and_no_server(store):  # noqa: F811
    training = begun(SWEEP.trials, store, chunks=2)
    page = report.write(store.results).read_text()
    assert "No launch runs." in page and CURVES in plots(page)
    assert "connect-src" not in page and 'id="served"' not in page
    assert not (store.results / "figures").exists() or not list((store.results / "figures").glob("in-training*"))
    training.close()


def test_a_sweep_with_the_same_rows_is_not_drawn_again(tmp_path, monkeypatch):
    saved, save = [], figures.save
    monkeypatch.setattr(figures, "save", lambda *arguments: saved.append(arguments[2]) or save(*arguments))
    store_of(tmp_path, "first", [(trial, {}) for trial in grid()])
    store_of(tmp_path, "second", [(trial, {}) for trial in grid(noise=(0.6, 0.8))])
    unchanged = Unchanged()

    def drawn():
        saved.clear()
        return report.draw(Snapshot(tmp_path), tmp_path / "figures", unchanged)

    page = drawn()
    assert {name.partition("-")[0] for name in saved} == {"first", "second"}
    assert drawn().version == page.version and not saved
    store_of(tmp_path, "second", [(trial, {}) for trial in grid(noise=(0.9,))])
    assert drawn().version != page.version
    assert {name.partition("-")[0] for name in saved} == {"second"}


def test_a_page_that_fails_leaves_the_former_one(tmp_path, monkeypatch):
    store_of(tmp_path, "first", [(trial, {}) for trial in grid(seeds=1)])
    draw, calls, pages, said = watching.draw, [], [], []

    def failing(*arguments, **options):
        calls.append(len(pages))
        if len(pages) in (1, 2):
            raise ValueError("broken for now")
        return draw(*arguments, **options)

    def sleep(seconds):
        """Between two looks, some rows are added; before the last, none."""
        assert seconds >= watching.REDRAW_SECONDS
        pages.append(fetched(addresses[0]))
        if len(pages) == 5:
            raise KeyboardInterrupt
        if len(pages) < 4:
            store_of(tmp_path, f"sweep{len(pages)}", [(trial, {}) for trial in grid(seeds=1)])

    addresses = []
    monkeypatch.setattr(watching, "draw", failing)
    monkeypatch.setattr(watching.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watching.watch(str(tmp_path), 0, addresses.append, said.append)
    assert pages[0] == pages[1] == pages[2] and "sweep3" in pages[3]
    assert calls == [0, 1, 2, 3]  # and not again without new rows
    assert said == ["memsweep: the page was not drawn: ValueError: broken for now"]


def test_drawing_takes_a_share_of_a_processor():
    assert watching.pause(0.01) == watching.REDRAW_SECONDS
    assert 10 / (10 + watching.pause(10)) == pytest.approx(watching.SHARE)


def test_an_interruption_that_python_drops_ends_the_watched_page(tmp_path, monkeypatch):
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()])
    calls = []

    def draw(*_, **__):
        calls.append(1)
        with suppress(KeyboardInterrupt):  # as in a callback
            signal.raise_signal(signal.SIGINT)
        return watching.UNDRAWN

    monkeypatch.setattr(watching, "draw", draw)
    monkeypatch.setattr(watching, "REDRAW_SECONDS", 0.0)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        watching.watch(tmp_path, 0, str, str)
    assert calls == [1] and signal.getsignal(signal.SIGINT) == before
