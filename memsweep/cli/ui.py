"""The MLflow UI on this machine while the command runs; all its processes end with the command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO

from memsweep.results.mlflow.background import TrackingError, default_uri, shown, sqlite_path
from memsweep.results.mlflow.pages import pages
from memsweep.results.mlflow.sync import ERRORS, prepare
from memsweep.results.storage.location import Location, local_folder
from memsweep.run.recovery.watchdog import no_orphans

HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 5.0
"""Time for a server to end before it is killed: it waits for connections that browsers hold open."""
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that serve only generative AI
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def serve(
    results: Location,
    uri: str,
    port: int,
    announce: Callable[[str], None],
    say: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Serves MLflow until interrupted; for a server elsewhere, only announces its address.

    announce: called with each address to open, once the server responds.  say: called with messages before that.
    Raises TrackingError when there is nothing to show, the port is taken, or the server ends.
    """
    if uri.startswith(("http://", "https://")):
        announce(f"{shown(uri).rstrip('/')}/#/experiments")
        return
    path = sqlite_path(uri)
    if path and not path.is_file():
        raise TrackingError(f"no MLflow database at {path}. Run memsweep launch or memsweep track first.")
    _check_is_free(port)
    prepare(uri, uri == default_uri(results), say)
    address = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", HOST]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level=warning"]
    if uri == default_uri(results):
        command += ["--default-artifact-root", (local_folder(results) / "mlartifacts").as_uri()]
    with (
        tempfile.TemporaryFile() as log,
        no_orphans(),
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **QUIET}
        ) as server,
    ):
        try:
            page_of = _pages(uri)
            _wait_for(address, server, log)
            for sweep, page in page_of.items():
                announce(f"{address}{page} {sweep}")
            if not page_of:
                announce(f"{address}/#/experiments")
            server.wait()
            raise TrackingError(f"the MLflow server has ended: {_last_line(log)}")
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()  # no_orphans ends its children


def _pages(uri: str) -> dict[str, str]:
    try:
        return pages(uri)
    except ERRORS as error:  # for example a database of an older MLflow, other than an SQLite file
        raise TrackingError(f"MLflow at {shown(uri)} can't be shown: {shown(error)}") from error


def _check_is_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port counts as free while old connections close
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(
                f"port {port} of {HOST} can't be used ({error.strerror}). "
                f"Choose another with --port, or check whether http://{HOST}:{port} already shows MLflow."
            ) from error


def _wait_for(address: str, server: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if server.poll() is not None or time.monotonic() > until:
                raise TrackingError(f"the MLflow server did not start: {_last_line(log)}") from None
            time.sleep(0.2)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
