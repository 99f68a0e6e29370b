"""Results of a small sweep with a database of MLflow beside them, and what tests ask of it; fixtures to import."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import ViewType

from memsweep.results.mlflow import background, bulk
from memsweep.results.mlflow.sync import Tracking
from memsweep.results.storage.store import Store
from memsweep.run.rounds.definition import write_wanted
from memsweep.spec.schema import cell
from memsweep.spec.sweep_files import load_sweep
from tests.cases import NOON, ended, step

SMOKE = load_sweep("smoke")
TRIALS = SMOKE.trials[:4]  # two settings of three seeds, the second cut short
ROOT = Path(__file__).parents[1]
NOON_MS = int(NOON.timestamp() * 1000)
COUNTS = {"train_count": 200, "validation_count": 100, "label_changed_count": 50}


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A database that MLflow has just made, which takes a second."""
    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    with closing(sqlite3.connect(path)) as connection:  # what is in the write-ahead log joins the file
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def empty(tmp_path, blank):
    """A results folder without trials."""
    made = Store(tmp_path / "results", create=True)
    shutil.copy(blank, made.results)
    return made


@pytest.fixture
def store(empty):
    """Four trials that have ended, two measurements each."""
    write_wanted(SMOKE, SMOKE.trials, empty)
    end(empty, TRIALS)
    return empty


def end(store, trials, status="finished", attempt="a", minute=0, **fields):
    """What a pack writes of these trials."""
    store.write("steps", [measured(t.trial_id, attempt, 4 * n, 50 * n) for t in trials for n in (1, 2)])
    counts = {"step_count": 8, "train_correct_count": 100, "validation_correct_count": 60, "wall_seconds": 4.0}
    counts |= {"test_correct_count": 9, "test_count": 10, "pack_id": "pack", **COUNTS, **fields}
    columns = [{name.replace(".", "_"): cell(value) for name, value in t.flat().items()} for t in trials]
    rows = [
        ended(t.trial_id, status, attempt, minute, **{**row, **counts, "setting_id": t.setting_id})
        for t, row in zip(trials, columns, strict=True)
    ]
    store.write("trials", rows)


def measured(trial_id, attempt, number, correct):
    return step(trial_id, attempt, number, train_correct_count=correct, validation_correct_count=60, **COUNTS)


def uri_of(store):
    return background.default_uri(store.results)


def client(store):
    return MlflowClient(uri_of(store))


def fill(store):
    made = Tracking(store, uri_of(store))
    made.fill()
    return made


def all_runs(client, name="smoke", view=ViewType.ACTIVE_ONLY):
    """Every run of an experiment."""
    found, token = [], None
    experiment = client.get_experiment_by_name(name)
    while experiment is not None:
        page = client.search_runs([experiment.experiment_id], "", view, 50, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def trial_runs(client, name="smoke"):
    """trial_id -> its one run."""
    found = [run for run in all_runs(client, name) if "trial_id" in run.data.tags]
    by_trial = {run.data.tags["trial_id"]: run for run in found}
    assert len(by_trial) == len(found), "a trial has several runs"
    return by_trial


def the_parent(client, name="smoke"):
    (found,) = [run for run in all_runs(client, name) if run.data.tags.get("role") == "sweep"]
    return found


def history(client, run, key):
    return [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]


def whole(client, name="smoke"):
    """All that MLflow holds, without the names that it gave itself."""
    parent = the_parent(client, name)
    runs = trial_runs(client, name)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} <= {parent.info.run_id}
    return {
        trial: (
            *(run.info.status, run.info.start_time, run.info.end_time, run.info.run_name, run.data.params),
            {name: value for name, value in run.data.tags.items() if name != "mlflow.parentRunId"},
            {key: history(client, run, key) for key in run.data.metrics},
        )
        for trial, run in {**runs, "": parent}.items()
    }


def all_rows(uri):
    """Table -> all rows, sorted, without ids of runs and times that MLflow gives itself.

    An id becomes what its run is of. Raw rows, since MLflow's client does not show all columns.
    """
    engine = sqlalchemy.create_engine(uri)
    with engine.connect() as connection:
        names = sqlalchemy.inspect(connection).get_table_names()
        read = {name: connection.execute(sqlalchemy.text(f"SELECT * FROM {name}")).mappings().all() for name in names}
    engine.dispose()
    tags = {(tag["run_uuid"], tag["key"]): tag["value"] for tag in read["tags"]}
    ids = {
        run: f"({tags.get((run, 'trial_id'), 'sweep')} {row['name']} {row['lifecycle_stage']})"
        for row in read["runs"]
        for run in [row["run_uuid"]]
    }

    def plain(column, value):
        if column in ("creation_time", "last_update_time", "deleted_time"):
            return value is not None
        return re.sub("[0-9a-f]{32}", lambda id_: ids.get(id_[0], id_[0]), value) if isinstance(value, str) else value

    return {
        table: sorted(({name: plain(name, row[name]) for name in row} for row in rows), key=repr)
        for table, rows in read.items()
    }


@pytest.fixture
def by_client(monkeypatch):
    """MLflow's client writes all runs, one at a time."""
    monkeypatch.setattr(bulk, "REVISIONS", ())


def memsweep_(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "memsweep", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def followers(results):
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "--follow" in (line := process.info["cmdline"] or []) and str(results) in line
    ]


def wait_until(condition, seconds, what):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.1)
