"""MLflow on PostgreSQL, directly and through a server, which are killed, slow or wiped: each run is there once."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from memsweep.results.mlflow.projection import Curve
from memsweep.results.mlflow.run_writer import RunWriter
from memsweep.results.storage.store import Store
from memsweep.run.rounds.definition import write_wanted
from memsweep.spec.sweep_files import load_sweep
from tests.cluster import postgres
from tests.mlflow_store import ROOT, end, followers, the_parent, trial_runs, uri_of, wait_until, whole
from tests.processes import free_port, mlflow_server
from tests.test_tracking_bulk import RUN, compare

pytestmark = [
    pytest.mark.skipif(not postgres.is_here(), reason="no PostgreSQL here: apt-get install postgresql"),
    pytest.mark.usefixtures("tracked"),
]
SWEEP = load_sweep("smoke").with_axes({"seeds": range(15)})  # 60 trials


@pytest.fixture(scope="module")
def server():
    """With a database that has MLflow's tables, which take long to make."""
    with postgres.serving() as found:
        found.renew()
        found.template = found.database
        track_nothing = MlflowClient(found.uri)
        track_nothing.search_experiments()
        track_nothing._tracking_client.store.engine.dispose()  # nobody may be connected to what is copied
        yield found


@pytest.fixture
def database(server):
    server.renew(server.template)
    return server


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "results", create=True)
    write_wanted(SWEEP, SWEEP.trials, made)
    end(made, SWEEP.trials)
    return made


SLOWLY = """
import time
from memsweep.results.mlflow import bulk, run_writer
from memsweep.cli.app import main
run_writer.RUNS_A_TRANSACTION = 4
insert = bulk._insert
bulk._insert = lambda *arguments: (time.sleep(0.1), insert(*arguments))
main()
"""


def track(store, uri, how=("-m", "memsweep"), **options):
    """In a process of its own, as people do: MLflow remembers databases as long as it lives."""
    return subprocess.Popen(
        [sys.executable, *how, "track", "--results", str(store.results)],
        **{"cwd": ROOT, "env": {**os.environ, "MLFLOW_TRACKING_URI": uri}, "stdin": subprocess.DEVNULL},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options},
    )


def tracked_whole(store, uri):
    """Tracks once more, which must end well; what it says."""
    with track(store, uri) as process:
        said = process.communicate(timeout=200)[0]
    assert process.returncode == 0 and postgres.PASSWORD not in said, said
    return said


def assert_each_once(uri, store, points=2):
    """With all of its measurements, each once, and nothing else of it."""
    found = MlflowClient(uri)
    runs = trial_runs(found)
    assert runs.keys() == {trial.trial_id for trial in SWEEP.trials}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for run in list(runs.values())[::7]:
        assert len(found.get_metric_history(run.info.run_id, "train_accuracy")) == points
    assert "0 runs written, 0 deleted" in tracked_whole(store, uri)


def test_all_tables_of_postgresql_hold_the_rows_that_the_client_writes(server, tmp_path, monkeypatch):
    uris = []
    for _ in range(2):
        server.renew(server.template)
        uris.append(server.uri)
    compare(Store(tmp_path / "results", create=True), *uris, monkeypatch)


def test_runs_that_postgresql_refuses_in_bulk_are_written_by_the_client(database):
    made, said = MlflowClient(database.uri), []
    twice = replace(RUN, curves={"a": Curve(*(2 * column for column in RUN.curves["a"]))})
    written = RunWriter(made, said.append).write(made.create_experiment("e", "file:///e"), {"twice": twice})
    ((_, run_id),) = written
    assert len(said) == 1 and "refused several at once" in said[0] and "UniqueViolation" in said[0]
    assert len(made.get_metric_history(run_id, "a")) == 1


def test_postgresql_holds_what_sqlite_holds(database, store):
    tracked_whole(store, uri_of(store))
    assert f"{len(SWEEP.trials)} runs written" in tracked_whole(store, database.uri)
    assert whole(MlflowClient(database.uri)) == whole(MlflowClient(uri_of(store)))
    assert the_parent(MlflowClient(database.uri)).info.status == "FINISHED"
    assert list(store.results.glob("mlartifacts/smoke/*/artifacts/plan.csv"))
    assert_each_once(database.uri, store)


@pytest.mark.timeout(400)
def test_a_server_on_postgresql_killed_while_it_is_filled_holds_each_run_once(database, store, tmp_path):
    address = f"http://127.0.0.1:{(port := free_port())}"
    with mlflow_server(tmp_path, port, backend=database.uri) as die, track(store, address) as process:
        wait_until(lambda: database.runs() > 5, 120, "nothing was written")
        die()
        assert "memsweep track again" in process.communicate(timeout=120)[0] and process.returncode == 2
    with mlflow_server(tmp_path, port, backend=database.uri):
        tracked_whole(store, address)
        assert_each_once(address, store)


@pytest.mark.parametrize("fault", ["killed", "wiped"])
def test_a_database_killed_or_wiped_while_it_is_filled_holds_each_run_once_when_it_is_back(database, store, fault):
    with track(store, database.uri, ("-c", SLOWLY)) as process:
        wait_until(lambda: database.runs() > 5, 120, "nothing was written")
        if fault == "killed":
            database.kill()
        else:
            database.wipe()
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 2 and "memsweep track again" in said and postgres.PASSWORD not in said, said
    if fault == "killed":
        database.start()
    tracked_whole(store, database.uri)
    assert_each_once(database.uri, store)


@contextmanager
def slowly(port, seconds):
    """A port behind which everything arrives later, in both directions."""
    listener = socket.create_server(("127.0.0.1", 0))

    def hand_on(source, sink):
        with source, suppress(OSError):
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
    with slowly(database.port, 0.005) as port:
        tracked_whole(store, database.behind(port))
    assert_each_once(database.uri, store)


@pytest.mark.timeout(500)
def test_a_launch_goes_on_while_its_database_dies_and_no_password_is_left_anywhere(database, tmp_path):
    words = [sys.executable, "-m", "memsweep", "launch", "smoke", "--set", "seeds=0:15"]
    words += ["--results", str(tmp_path / "r")]
    own = {**os.environ, "MLFLOW_TRACKING_URI": database.uri}
    with open(tmp_path / "said", "w") as said:
        launch = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=own)
        wait_until(lambda: followers(tmp_path / "r"), 120, "no follower")
        database.kill()
        assert launch.wait(240) == 0, (tmp_path / "said").read_text()
    assert len(Store(tmp_path / "r").trials(["trial_id"])) == len(SWEEP.trials)
    database.start()
    wait_until(lambda: not followers(tmp_path / "r"), 240, "the follower goes on")
    assert_each_once(database.uri, Store(tmp_path / "r"), points=10)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or postgres.PASSWORD.encode() not in path.read_bytes(), path
