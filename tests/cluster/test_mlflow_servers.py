"""MLflow on PostgreSQL, directly and through a server, which are killed, slow or wiped: each run is there once."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from mlflow import MlflowClient

from memsweep.launch.driver import write_wanted
from memsweep.results import tracking
from memsweep.results.store import Store
from memsweep.results.tracking import Tracking
from memsweep.sweep import load_sweep
from tests.cluster import postgres
from tests.cluster.machines import free_port
from tests.test_tracking import ROOT, end, followers, mlflow_server, the_parent, trial_runs, uri_of, wait_until, whole

pytestmark = [
    pytest.mark.skipif(not postgres.is_here(), reason="no PostgreSQL here: apt-get install postgresql"),
    pytest.mark.usefixtures("tracked"),
]
SWEEP = load_sweep("smoke").with_axes({"seeds": range(15)})  # 60 trials


@pytest.fixture(scope="module")
def server():
    with postgres.serving() as found:
        yield found


@pytest.fixture
def database(server):
    """With nothing in it."""
    server.wipe()
    return server


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "results", create=True)
    write_wanted(SWEEP, SWEEP.trials, made)
    end(made, SWEEP.trials)
    return made


def assert_each_once(uri, store):
    """With both of its measurements, and nothing else of it."""
    found = MlflowClient(uri)
    runs = trial_runs(found)
    assert runs.keys() == {trial.trial_id for trial in SWEEP.trials}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for run in list(runs.values())[::7]:
        assert len(found.get_metric_history(run.info.run_id, "train_accuracy")) == 2
    assert Tracking(store, uri).fill() == {"smoke": len(SWEEP.trials)}


def fill_to_the_end(store, uri):
    """As the follower does: after an error all is asked anew."""
    made, until = Tracking(store, uri), time.monotonic() + 120
    while True:
        try:
            made.fill()
            return made
        except tracking.ERRORS:
            assert time.monotonic() < until
            made.forget()
            time.sleep(0.5)


@contextmanager
def filling(store, uri, runs=5):
    """A fill that goes on in a thread, and has written so many runs."""
    made = Tracking(store, uri)

    def work():
        while True:
            try:
                made.fill()
                return
            except tracking.ERRORS:
                made.forget()
                time.sleep(0.5)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait_until(lambda: made.written >= runs, 120, "nothing was written")
    assert made.written < len(SWEEP.trials), "it was too fast to be disturbed"
    yield made
    thread.join(120)
    assert not thread.is_alive()


def test_postgresql_holds_what_sqlite_holds(database, store):
    fill_to_the_end(store, uri_of(store))
    made = fill_to_the_end(store, database.uri)
    assert made.written == len(SWEEP.trials)
    assert whole(MlflowClient(database.uri)) == whole(MlflowClient(uri_of(store)))
    assert the_parent(MlflowClient(database.uri)).info.status == "FINISHED"
    assert list(store.results.glob("mlartifacts/smoke/*/artifacts/plan.csv"))
    assert_each_once(database.uri, store)


def test_a_server_on_postgresql_holds_each_run_once(database, store, tmp_path):
    with mlflow_server(tmp_path, port := free_port(), backend=database.uri):
        fill_to_the_end(store, f"http://127.0.0.1:{port}")
        assert_each_once(f"http://127.0.0.1:{port}", store)


def test_a_server_killed_while_it_is_filled_holds_each_run_once_when_it_is_back(database, store, tmp_path):
    port = free_port()
    with mlflow_server(tmp_path, port, backend=database.uri) as first, filling(store, f"http://127.0.0.1:{port}"):
        first()  # dies
        with mlflow_server(tmp_path, port, backend=database.uri):
            until = time.monotonic() + 120
            while len(trial_runs_now(database.uri)) < len(SWEEP.trials):
                assert time.monotonic() < until
                time.sleep(0.5)
    fill_to_the_end(store, database.uri)
    assert_each_once(database.uri, store)


def trial_runs_now(uri):
    """Of a database that is being written: none while it has no experiment."""
    found = MlflowClient(uri)
    experiment = found.get_experiment_by_name("smoke")
    if experiment is None:
        return []
    runs = found.search_runs([experiment.experiment_id], "tags.role = 'trial'", max_results=1000)
    return [run for run in runs if run.info.status == "FINISHED"]


def test_a_database_killed_while_it_is_filled_holds_each_run_once_when_it_is_back(database, store):
    with filling(store, database.uri):
        database.kill()
        time.sleep(1)
        database.start()
    assert_each_once(database.uri, store)


def test_a_database_wiped_while_it_is_filled_holds_each_run_once(database, store):
    with filling(store, database.uri):
        database.wipe()
    fill_to_the_end(store, database.uri)
    assert_each_once(database.uri, store)


@contextmanager
def slowly(port, seconds):
    """A port behind which everything arrives later, in both directions."""
    listener = socket.create_server(("127.0.0.1", 0))

    def hand_on(source, sink):
        while data := source.recv(1 << 16):
            time.sleep(seconds)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def serve():
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=hand_on, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def test_a_slow_network_costs_time_and_nothing_else(database, store):
    Tracking(store, database.uri).client.search_experiments()  # its tables are made, which takes hundreds of turns
    with slowly(database.port, 0.005) as port:
        fill_to_the_end(store, database.at(port))
    assert_each_once(database.uri, store)


@pytest.mark.timeout(400)
def test_a_launch_goes_on_while_its_database_dies_and_no_password_is_left_anywhere(database, tmp_path):
    words = [
        sys.executable,
        "-m",
        "memsweep",
        "launch",
        "smoke",
        "--set",
        "seeds=0:15",
        "--results",
        str(tmp_path / "r"),
    ]
    own = {**os.environ, "MLFLOW_TRACKING_URI": database.uri}
    with open(tmp_path / "said", "w") as said:
        launch = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=own)
        wait_until(lambda: followers(tmp_path / "r"), 120, "no follower")
        database.kill()
        assert launch.wait(240) == 0, (tmp_path / "said").read_text()
    assert len(Store(tmp_path / "r").trials(["trial_id"])) == len(SWEEP.trials)
    database.start()
    wait_until(lambda: not followers(tmp_path / "r"), 180, "the follower goes on")
    assert_each_once(database.uri, Store(tmp_path / "r"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert postgres.PASSWORD.encode() not in content and quote(postgres.PASSWORD).encode() not in content, path
