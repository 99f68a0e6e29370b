"""MLflow is filled beside a launch, whatever happens to its server or to a process, and shown by `ui`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from memsweep.cli import ui
from memsweep.results.mlflow import background, follow
from memsweep.results.mlflow.sync import TrackingError
from memsweep.results.storage.store import Store
from memsweep.run import launcher
from tests.mlflow_store import (
    ROOT,
    SMOKE,
    all_runs,
    blank,
    client,
    empty,
    end,
    fill,
    followers,
    memsweep_,
    store,
    the_parent,
    trial_runs,
    uri_of,
    wait_until,
)
from tests.processes import free_port, mlflow_server

pytestmark = [pytest.mark.usefixtures("tracked"), pytest.mark.alone]


# Servers that fail.


def test_track_says_in_one_message_that_a_server_is_away(store, monkeypatch):
    monkeypatch.setattr(follow, "SHORT_PAUSES", (0.1, 0.1))
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:.* memsweep track again") as failed:
        follow.track(store, address, pytest.fail)
    assert "secret" not in str(failed.value) and "\n" not in str(failed.value)


def test_a_file_that_is_no_database_is_refused_at_once(store):
    (store.results / "mlflow.db").write_text("not a database, but long enough to be looked at as one" * 40)
    with pytest.raises(TrackingError, match="Move the file away"):
        follow.track(store, uri_of(store), pytest.fail)


def test_a_follower_gives_up_with_what_to_do(store, monkeypatch):
    monkeypatch.setattr(follow, "GIVE_UP_SECONDS", 0.05)
    monkeypatch.setattr(follow, "LONG_PAUSES", (0.1,))
    said = []
    with pytest.raises(TrackingError, match=f"memsweep track --results {store.results}"):
        follow.follow(store, f"http://127.0.0.1:{free_port()}", said.append)
    assert said and not store.is_locked("track")


class Unreliable(ThreadingHTTPServer):
    """Stands before an MLflow server, and hands on only some requests, or only some answers."""

    daemon_threads = True

    def __init__(self, behind):
        self.behind, self.count, self.broken = behind, 0, True
        super().__init__(("127.0.0.1", 0), Unreliably)


class Unreliably(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def hand_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.count += 1
        fate = self.server.count % 17 if self.server.broken else 0
        if fate == 7:
            return self.answer(500, b"{}")
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        request = urllib.request.Request(self.server.behind + self.path, body or None, kept, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                status, content = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        except OSError:
            return self.answer(502, b"{}")
        if fate == 14:  # it happened, but nobody is told
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        return self.answer(status, content)

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = hand_on


def test_a_server_that_fails_dies_and_comes_back_holds_each_run_once(store, tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "LONG_PAUSES", (0.2,))
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.2)
    port, said = free_port(), []
    front = Unreliable(f"http://127.0.0.1:{port}")
    threading.Thread(target=front.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{front.server_address[1]}"
    with store.lock("launch"):
        follower = threading.Thread(target=follow.follow, args=(store, uri, said.append))
        follower.start()  # while there is no server yet
        with mlflow_server(tmp_path, port):
            until = time.monotonic() + 30
            direct = MlflowClient(f"http://127.0.0.1:{port}")
            while not trial_runs_so_far(direct):
                assert time.monotonic() < until, said
                time.sleep(0.1)
        end(store, SMOKE.trials[4:], attempt="b")  # while it is dead
    with mlflow_server(tmp_path, port):
        follower.join(60)
        assert not follower.is_alive()
        runs = trial_runs(direct)
        assert len(runs) == 12 and {run.info.status for run in runs.values()} == {"FINISHED"}
        assert all({"train_accuracy", "test_accuracy"} <= run.data.metrics.keys() for run in runs.values())
        artifacts = [file.path for file in direct.list_artifacts(the_parent(direct).info.run_id)]
        assert artifacts == ["plan.csv"] and the_parent(direct).info.status == "FINISHED"
    assert any("trying again" in sentence for sentence in said)
    front.shutdown()
    front.server_close()


def trial_runs_so_far(client):
    return [run for run in all_runs(client) if "trial_id" in run.data.tags]


# Processes.


def test_a_launch_is_followed_to_its_end_by_a_process_that_ends(tmp_path, ray_address):
    launched = memsweep_("launch", "smoke", "--results", tmp_path, "--address", ray_address, MLFLOW_TRACKING_URI="")
    assert launched.returncode == 0, launched.stderr
    last = launched.stderr.splitlines()[-1]
    assert f"sqlite:///{tmp_path}/mlflow.db" in last and f"memsweep ui --results {tmp_path}" in last
    wait_until(lambda: not followers(tmp_path), 60, "the follower goes on")
    assert "12 runs written" in (tmp_path / "tracking.log").read_text()
    again = memsweep_("track", "--results", tmp_path, MLFLOW_TRACKING_URI="")
    assert again.returncode == 0 and "smoke: 12 trials are in MLflow\n0 runs written" in again.stderr
    assert len(trial_runs(client(Store(tmp_path)))) == 12
    assert the_parent(client(Store(tmp_path))).info.status == "FINISHED"


def test_a_killed_launch_is_in_mlflow_as_far_as_it_came(tmp_path):
    long = ["smoke", "--set", "optimizer.epochs=60", "--set", "seeds=0:200", "--members", "4"]  # 800 trials
    command = [sys.executable, "-m", "memsweep", "launch", *long, "--results", str(tmp_path)]
    driver = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
    )
    store = Store(tmp_path)
    try:
        wait_until(lambda: store.parts("trials"), 120, "no part was written")
        (follower,) = followers(tmp_path)
        assert psutil.Process(driver.pid) not in follower.parents()
        wait_until(lambda: follower.nice() == 19, 20, "the follower keeps its priority although a trial has ended")
        session = Path(f"/proc/{follower.pid}/autogroup")
        if session.exists():  # its priority follows that of the process
            wait_until(lambda: session.read_text().endswith("nice 19\n"), 20, "its session keeps its priority")
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not followers(tmp_path), 60, "the follower goes on")
    finished = set(store.trials(["trial_id"])["trial_id"].to_pylist())
    assert trial_runs(client(store)).keys() == finished and 0 < len(finished) < 800
    assert the_parent(client(store)).info.status == "KILLED"


def test_tracking_may_be_switched_off(store, monkeypatch):
    monkeypatch.setattr(background, "start", lambda *_: pytest.fail("a follower was started"))
    assert launcher._follow(store, "none") is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    assert launcher._follow(store, None) is None
    refused = memsweep_("track", "--results", store.results)
    assert refused.returncode == 2 and "--tracking-uri" in refused.stderr


def test_a_follower_that_cannot_be_started_stops_no_launch(store, monkeypatch):
    (store.results / "tracking.log").mkdir()
    assert "memsweep track" in launcher._follow(store, "http://me:secret@mlflow.example")
    assert "secret" not in launcher._follow(store, "http://me:secret@mlflow.example")


def test_track_waits_for_a_follower_and_a_second_follower_ends(store):
    said = []
    with store.lock("track"):
        follow.follow(store, uri_of(store), said.append)
        assert "another process" in said[-1]
        waiting = threading.Thread(target=follow.track, args=(store, uri_of(store), said.append))
        waiting.start()
        wait_until(lambda: said[-1].startswith("waiting"), 10, "it does not say that it waits")
        time.sleep(0.3)
        assert waiting.is_alive() and trial_runs(client(store)) == {}
    waiting.join(30)
    assert said[-1].startswith("4 runs written") and len(trial_runs(client(store))) == 4


def test_a_launch_that_begins_as_a_follower_ends_is_followed(store, monkeypatch):
    passes = []

    def following(*_):
        passes.append(store.is_locked("launch"))

    monkeypatch.setattr(follow, "_follow", following)
    monkeypatch.setattr(Store, "is_locked", lambda self, name="launch": name == "launch" and len(passes) < 2)
    follow.follow(store, uri_of(store), lambda _: None)
    assert len(passes) == 2


def test_looking_at_the_lock_refuses_no_launch(store):
    done = threading.Event()

    def look():
        while not done.is_set():
            store.is_locked("launch")

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(50):
            with store.lock("launch"):
                pass
    finally:
        done.set()
        for watcher in watchers:
            watcher.join()


def test_a_follower_ends_when_its_folder_is_gone(store):
    shutil.rmtree(store.results)
    follow._follow(store, "sqlite:///nowhere/x.db", lambda _: None)


@pytest.fixture
def served(store):
    fill(store)
    port = free_port()
    command = [sys.executable, "-m", "memsweep", "ui", "--results", str(store.results), "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )
    yield process, port
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ui_answers_on_this_machine_only_and_leaves_no_process(store, served, number):
    process, port = served
    address, _, sweep = process.stdout.readline().strip().partition(" ")
    assert sweep == "smoke" and address.startswith(f"http://127.0.0.1:{port}/#/experiments/"), process.stderr.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.status == 200
    family = psutil.Process(process.pid).children(recursive=True)
    listening = {c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"} and len(family) <= 3
    if number == signal.SIGINT:
        second = memsweep_("ui", "--results", store.results, "--port", port, MLFLOW_TRACKING_URI="")
        assert second.returncode == 2 and f"port {port}" in second.stderr and "--port" in second.stderr
    process.send_signal(number)
    _, message = process.communicate(timeout=20)
    if number == signal.SIGINT:
        assert (process.returncode, message) == (0, "")
    assert not psutil.wait_procs(family, timeout=10)[1]


STUBBORN = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
port = int(sys.argv[sys.argv.index("--port") + 1])
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers()
http.server.HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
"""


def test_a_server_that_does_not_end_is_killed(store, tmp_path, monkeypatch):
    fill(store)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__main__.py").write_text(STUBBORN)
    monkeypatch.setitem(ui.QUIET, "PYTHONPATH", str(tmp_path))  # the server's alone
    monkeypatch.setattr(ui, "STOP_SECONDS", 0.5)
    port, asked = free_port(), []

    def interrupt(page):
        asked.append(page)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ui.serve(store.results, uri_of(store), port, interrupt)
    assert asked and not [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "mlflow" in child.cmdline()
    ]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_ui_without_a_database_says_what_to_do(tmp_path):
    with pytest.raises(TrackingError, match=r"no MLflow database at .* memsweep track"):
        ui.serve(tmp_path, background.default_uri(tmp_path), free_port(), pytest.fail)


def test_ui_of_a_server_elsewhere_is_its_address(tmp_path):
    told = []
    ui.serve(tmp_path, "http://me:secret@mlflow.example/", 5000, told.append)
    assert told == ["http://mlflow.example/#/experiments"]
