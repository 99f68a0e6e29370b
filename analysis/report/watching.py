"""Serves the report's page on this machine, and draws it again while a launch runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread, current_thread, main_thread

from memsweep.analysis.claims import table
from memsweep.analysis.core.arrangement import DEFAULT as DEFAULT_VIEW
from memsweep.analysis.core.arrangement import View
from memsweep.analysis.report.report import Page, draw
from memsweep.analysis.report.unchanged import Unchanged
from memsweep.results.storage.location import Location
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store
from memsweep.spec.schema import SCHEMAS

HOST = "127.0.0.1"
REDRAW_SECONDS = 3.0
"""Shortest time between the end of a drawing and the start of the next."""
SHARE = 0.2
"""Most processor time spent on drawing, as a share of one processor's time."""
UNDRAWN = Page(
    b'<!doctype html><meta http-equiv="refresh" content="2"><link rel="icon" href="data:,"><title>memsweep</title>'
    b"The page is being drawn.",
    "none",
    [],
)
"""Page until the first one is drawn."""


class WatchError(Exception):
    """The page can't be served; the message gives the reason."""


def watch(
    results: str | Location,
    port: int,
    announce: Callable[[str], None],
    say: Callable[[str], None],
    view: View = DEFAULT_VIEW,
) -> None:
    """Serves the page on 127.0.0.1 until interrupted, and draws it again when its rows have changed.

    Writes nothing into the folder. A page that can't be drawn leaves the former page in place.
    port: 0 is any free port.  announce: called with the page's address, once.  say: called with each problem.
    view: of all figures that have its fields.
    Raises WatchError if the port is taken, StoreError for a folder without results.
    """
    store = Store(results)
    with _server(port) as server, TemporaryDirectory() as folder, _interruption() as interrupted:
        announce(f"http://{HOST}:{server.server_port}/")
        unchanged, reported, former = Unchanged(), list[str](), list[object]()
        while not interrupted.is_set():
            begun = time.process_time()
            try:
                parts = _parts(store)
                if parts != former:
                    server.page = draw(Snapshot(results), Path(folder), unchanged, is_served=True, view=view)
                    former = parts
                problems = server.page.problems
            except Exception as error:  # the former page stays; the next look tries again
                problems = [f"memsweep: the page was not drawn: {type(error).__name__}: {error}"]
            for problem in problems:
                if problem not in reported:
                    say(problem)
            reported = problems
            time.sleep(pause(time.process_time() - begun))
    raise KeyboardInterrupt


@contextmanager
def _interruption() -> Iterator[Event]:
    """Yields an event that Ctrl-C sets, too: Python drops a KeyboardInterrupt within a callback or `__del__`."""
    interrupted = Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if current_thread() is not main_thread():
        yield interrupted
        return
    former = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, former)


def pause(processor_seconds: float) -> float:
    """Returns the seconds to wait after a look at the tables that took so much processor time."""
    return max(REDRAW_SECONDS, processor_seconds * (1 / SHARE - 1))


def _parts(store: Store) -> list[object]:
    """Returns what changes when the page may: the parts of all tables, the trials at work, the table of claims."""
    claims = store.results / table.FILE
    return [
        *(store.parts(name) for name in SCHEMAS),
        (store.is_locked(), store.running()),
        claims.read_bytes() if claims.exists() else b"",
    ]


class _Server(ThreadingHTTPServer):
    """Serves the current page to browsers on this machine."""

    daemon_threads = True
    page = UNDRAWN


class _Visit(BaseHTTPRequestHandler):
    """One request: GET of the page or of its version; anything else is an error."""

    server: _Server
    timeout = 10.0

    def do_GET(self) -> None:
        page, host = self.server.page, self.headers.get("Host", "").rpartition(":")[0]
        answers = {"/": (page.content, "text/html; charset=utf-8"), "/version": (page.version.encode(), "text/plain")}
        if host not in (HOST, "localhost"):  # a site elsewhere whose name leads to 127.0.0.1
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path not in answers:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            content, kind = answers[self.path]
            self.send_response(HTTPStatus.OK)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
            for name, value in {**headers, "X-Content-Type-Options": "nosniff"}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # the browser went on
                self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Prints nothing."""


@contextmanager
def _server(port: int) -> Iterator[_Server]:
    try:
        server = _Server((HOST, port), _Visit)
    except OSError as error:
        reason = error.strerror
        raise WatchError(f"port {port} of {HOST} can't be used ({reason}). Choose another with --port.") from error
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
