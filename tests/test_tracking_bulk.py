"""MLflow's database that is filled in bulk equals the database that MLflow's client fills, and is never half full."""

import math
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime

import pytest
import sqlalchemy
from mlflow import MlflowClient

from memsweep.results import notes
from memsweep.results.mlflow import bulk, databases, training
from memsweep.results.mlflow.projection import Curve, TrialRun
from memsweep.results.mlflow.run_writer import RunWriter, UnfitError
from memsweep.results.mlflow.sync import Tracking
from memsweep.results.storage.store import Store
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.rounds.replay import give_up
from memsweep.spec.sweep import Sweep
from tests.cases import NOON, ended
from tests.mlflow_store import (
    SMOKE,
    TRIALS,
    all_rows,
    all_runs,
    blank,
    by_client,
    client,
    empty,
    end,
    fill,
    measured,
    store,
    trial_runs,
    uri_of,
    whole,
)

pytestmark = pytest.mark.usefixtures("tracked")
WRITTEN = {
    "runs",
    "tags",
    "params",
    "metrics",
    "latest_metrics",
    "experiments",
    "experiment_tags",
    "alembic_version",
    "workspaces",
}
"""Tables that hold anything once trials are in MLflow."""


# Equal rows.


def test_the_schema_of_the_installed_mlflow_is_compared():
    assert databases._revisions()[0] in bulk.REVISIONS


def write_every_kind(store):
    """Trials of all ends and with all kinds of values; returns two more: one that trains, one that never ends."""
    write_wanted(SMOKE, SMOKE.trials, store)
    end(store, SMOKE.trials[:2], gradient_norm=0.25, fitted_step=8, host="h", code_commit="c", parameter_count=1234)
    end(store, SMOKE.trials[2:3], "failed", "b", cause=f"Traceback\nValueError: {'long' * 2000}")
    undefined = {"train_loss_sum_nats": math.nan, "validation_loss_sum_nats": math.inf, "gradient_norm": -math.inf}
    end(store, SMOKE.trials[3:4], "diverged", "c", **undefined, label_changed_count=0, memorized_count=0)
    store.write("trials", [ended(SMOKE.trials[4].trial_id, "failed", cause="early", finished_at=None)])
    end(store, SMOKE.trials[5:6], "interrupted", "d")
    give_up(SMOKE.trials[5:6], store)
    long = SMOKE.trials[6].trial_id
    end(store, SMOKE.trials[6:7], "out_of_memory", "e", step_count=3000)
    store.write("steps", [measured(long, "e", step, step % 200) for step in range(10, 3001)])
    end(store, SMOKE.trials[7:8], "finished", "f", metrics="lab:margin")
    value = {"trial_id": SMOKE.trials[7].trial_id, "attempt_id": "f", "part": "train", "metric": "lab:margin"}
    values = {("mean", 4): 1e-300, ("mean", 8): -1.5e300, ("least", 4): None, ("least", 8): 0.1}
    store.write("metrics", [{**value, "name": name, "step": step, "value": x} for (name, step), x in values.items()])
    words = Sweep("words", {"own.text": "é " * 250}, axes={"own.scale": (0.5, 2.0)})
    write_wanted(words, words.trials, store)
    end(store, words.trials, "pruned", "g")
    notes.write(store, "smoke", "look here", tags=["paper"])
    return SMOKE.trials[8:10]


class Noon(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOON


def compare(store, one_uri, other_uri, monkeypatch):
    """Fills one database in bulk and the other by MLflow's client, while a trial trains and once it has ended."""
    settles, trains = write_every_kind(store)
    monkeypatch.setattr(training, "datetime", Noon)
    said = {one_uri: [], other_uri: []}
    in_bulk = Tracking(store, one_uri, said[one_uri].append)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "REVISIONS", ())
        singly = Tracking(store, other_uri, said[other_uri].append)
    with store.lock():
        for trial in (settles, trains):
            store.write("live", [{**measured(trial.trial_id, "h", 4, 50), "begun_at": NOON}])
        for ended_trials in ([], [settles]):
            end(store, ended_trials, "finished", "h")
            assert in_bulk.fill() == singly.fill()
    assert in_bulk.written == singly.written == 11 and said[one_uri] == []
    (sentence,) = said[other_uri]
    assert "one at a time" in sentence
    one, other = all_rows(one_uri), all_rows(other_uri)
    assert {name for name, rows in one.items() if rows} == {name for name, rows in other.items() if rows} == WRITTEN
    for name in other:
        assert one[name] == other[name], name


def test_all_tables_hold_the_rows_that_the_client_writes(empty, tmp_path, monkeypatch):
    for name in ("one", "other"):
        shutil.copy(empty.results / "mlflow.db", tmp_path / f"{name}.db")
    compare(empty, f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db", monkeypatch)


TAGS = {"trial_id": "t", "role": "trial", "mlflow.runName": "name"}
RUN = TrialRun("name", 1, 2, "FINISHED", TAGS, {"seed": "0"}, {"a": Curve([1.0], [1], [1])})
ODD = {
    "without a tag of its name": {"tags": {"trial_id": "t"}},
    "of a user": {"tags": {**TAGS, "mlflow.user": "me"}},
    "a long parameter": {"parameters": {"seed": "0", "own.text": "x" * 7000}},
    "not a number": {"curves": {"a": Curve([1.0, math.nan], [1, 2], [1, 2])}},
    "infinite": {"curves": {"a": Curve([math.inf], [1], [1]), "b": Curve([-math.inf], [1], [1])}},
    "twice": {"curves": {"a": Curve([1.0, 1.0], [1, 1], [1, 1])}},
    "in another order": {"curves": {"a": Curve([3.0, 4.0, 5.0], [2, 2, 3], [2, 2, 1])}},
    "nothing": {"curves": {}, "parameters": {}},
}


@pytest.mark.parametrize("kind", ODD)
def test_values_that_mlflow_changes_are_changed_in_the_same_way(kind, blank, tmp_path, monkeypatch):
    odd = TrialRun(**{**vars(RUN), **ODD[kind]})
    said, rows = [], []
    for revisions in (bulk.REVISIONS, ()):
        path = shutil.copy(blank, tmp_path / f"{len(rows)}.db")
        made = MlflowClient(f"sqlite:///{path}")
        monkeypatch.setattr(bulk, "REVISIONS", revisions)
        writer = RunWriter(made, said.append)
        written = writer.write(made.create_experiment("e", "file:///e"), {"odd": odd, "plain": RUN})
        assert sorted(key for key, _ in written) == ["odd", "plain"]
        rows.append(all_rows(f"sqlite:///{path}"))
    assert rows[0] == rows[1]
    assert len(said) == (1 if kind in ("in another order", "nothing") else 2)


# Whole runs, whatever happens.


DYING = """
import os, signal, sys
from memsweep.results.mlflow import bulk, run_writer
from memsweep.results.mlflow.follow import track
from memsweep.results.storage.store import Store
run_writer.RUNS_A_TRANSACTION = 2
insert, tables = bulk._insert, []
def dying(connection, table, *rows):
    insert(connection, table, *rows)
    tables.append(table.name)
    if len(tables) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
bulk._insert = dying
track(Store(sys.argv[1]), sys.argv[2], print)  # tries again where another process made the experiment meanwhile
"""


@pytest.mark.parametrize("tables, runs", [(3, 0), (8, 2)])  # after `metrics`; before the second transaction ends
def test_a_process_that_is_killed_in_a_transaction_leaves_whole_runs_only(store, tables, runs):
    command = [sys.executable, "-c", DYING, str(store.results), uri_of(store), str(tables)]
    assert subprocess.run(command, timeout=120, stdin=subprocess.DEVNULL).returncode == -signal.SIGKILL
    left = trial_runs(client(store))
    assert len(left) == runs and all(run.info.status == "FINISHED" and run.data.metrics for run in left.values())
    assert (filled := fill(store)).written == 4 - runs and filled.deleted == 0
    assert_equals_another(store)


def assert_equals_another(store):
    """MLflow holds what it holds of a folder that was filled without disturbance."""
    disturbed = whole(client(store))
    other = store.results.parent / "other.db"
    Tracking(store, f"sqlite:///{other}").fill()
    assert whole(MlflowClient(f"sqlite:///{other}")) == disturbed


@pytest.mark.parametrize("happened", [True, False])
def test_a_transaction_whose_end_is_unknown_leaves_each_trial_once(store, monkeypatch, happened):
    insert = bulk.Database.insert

    def lost(self, experiment_id, runs):
        if happened:
            insert(self, experiment_id, runs)
        raise sqlalchemy.exc.OperationalError("COMMIT", None, OSError("connection lost"))

    made = Tracking(store, uri_of(store), pytest.fail)
    with monkeypatch.context() as patch:
        patch.setattr(bulk.Database, "insert", lost)
        with pytest.raises(sqlalchemy.exc.OperationalError):
            made.fill()
    made.forget()
    made.fill()
    assert (made.written, made.deleted) == (0 if happened else 4, 0)
    assert_equals_another(store)


def test_a_locked_database_is_waited_for_and_not_filled_in_another_way(store, monkeypatch):
    monkeypatch.setattr(bulk, "SQLITE", ("PRAGMA busy_timeout = 100", "PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE"))
    made = Tracking(store, uri_of(store), pytest.fail)
    insert = bulk.Database.insert
    with closing(sqlite3.connect(store.results / "mlflow.db")) as other:

        def locked(self, experiment_id, runs):
            other.execute("BEGIN IMMEDIATE")
            return insert(self, experiment_id, runs)

        with monkeypatch.context() as patch, pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
            patch.setattr(bulk.Database, "insert", locked)
            made.fill()
    made.forget()
    made.fill()
    assert made.written == 4
    assert_equals_another(store)


def test_processes_that_fill_a_database_at_once_write_each_run_once(tmp_path, blank):
    path, trials = shutil.copy(blank, tmp_path / "shared.db"), SMOKE.with_axes({"seeds": range(10)}).trials
    stores = [Store(tmp_path / name, create=True) for name in ("one", "two")]
    for made in stores:
        write_wanted(SMOKE, trials, made)
        end(made, trials)
    command = [sys.executable, "-c", DYING, "", f"sqlite:///{path}", "-1"]
    processes = [subprocess.Popen([*command[:3], str(made.results), *command[4:]]) for made in stores]
    assert [process.wait(120) for process in processes] == [0, 0]
    runs = [run for run in all_runs(MlflowClient(f"sqlite:///{path}")) if run.data.tags["role"] == "trial"]
    assert len(runs) == 2 * len(trials) and all(run.data.metrics for run in runs)
    assert len({(run.data.tags["results"], run.data.tags["trial_id"]) for run in runs}) == len(runs)
    assert [Tracking(made, f"sqlite:///{path}").fill() for made in stores] == [{"smoke": len(trials)}] * 2


# Left to MLflow's client.


def change(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "statement, reason",
    [
        ("UPDATE alembic_version SET version_num = 'ffffffffffff'", "dc11669786a5 is filled faster, not ffffffffffff"),
        ("DELETE FROM alembic_version", "not a schema unnamed"),
    ],
)
def test_another_schema_is_filled_by_the_client_which_is_explained_once(store, statement, reason):
    said = []
    made = Tracking(store, uri_of(store), said.append)
    change(store.results / "mlflow.db", statement)  # by an upgrade meanwhile: before the first pass MLflow refuses it
    made.fill()
    end(store, SMOKE.trials[4:6], attempt="b")
    made.fill()
    assert len(said) == 1 and "client writes runs one at a time" in said[0] and reason in said[0]
    assert made.written == 6
    assert_equals_another(store)


def test_a_table_with_another_column_is_filled_by_the_client(store):
    change(store.results / "mlflow.db", "ALTER TABLE tags ADD COLUMN colour VARCHAR(20)")
    said = []
    assert Tracking(store, uri_of(store), said.append).fill() == {"smoke": 4}
    assert len(said) == 1 and "table tags differs from MLflow's in colour" in said[0]


NO_DATABASE = {
    "server": "only a database is filled faster",
    "workspaces": "only a database is filled faster",
    "other database": "only postgresql\\+psycopg are filled faster",
    "model": "MLFLOW_ACTIVE_MODEL_ID names a model",
}


@pytest.mark.parametrize("what", NO_DATABASE)
def test_an_mlflow_whose_tables_were_not_compared_is_left_to_the_client(what, blank, tmp_path, monkeypatch):
    uri = f"sqlite:///{shutil.copy(blank, tmp_path)}"
    if what == "workspaces":
        monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    elif what == "other database":
        monkeypatch.setattr(bulk, "DRIVERS", ("postgresql+psycopg",))
    elif what == "model":
        monkeypatch.setattr(bulk, "get_active_model_id", lambda: "m-1")
    made = MlflowClient("http://127.0.0.1:9" if what == "server" else uri)
    with pytest.raises(UnfitError, match=NO_DATABASE[what]):
        bulk.Database(made)


def test_an_mlflow_without_these_modules_is_filled_by_the_client(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "memsweep.results.mlflow.bulk", None)
    said = []
    assert Tracking(store, uri_of(store), said.append).fill() == {"smoke": 4}
    assert len(said) == 1 and "keeps its tables elsewhere" in said[0]


def test_an_experiment_that_is_deleted_meanwhile_comes_back(store):
    made = Tracking(store, uri_of(store), pytest.fail)
    made.fill()
    client(store).delete_experiment(client(store).get_experiment_by_name("smoke").experiment_id)
    end(store, SMOKE.trials[4:6], attempt="b")
    with pytest.raises(databases.MlflowException, match="was deleted"):
        made.fill()
    made.forget()
    made.fill()
    assert len(trial_runs(client(store))) == 6
