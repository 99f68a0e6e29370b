"""MLflow's database is made by one process at a time, upgraded or rebuilt, and nobody's own is thrown away."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import mlflow.store.db.utils
import pytest
from alembic import command
from mlflow import MlflowClient

from memsweep.cli import ui
from memsweep.results.mlflow import databases, follow
from memsweep.results.mlflow.background import TrackingError
from memsweep.results.storage import locks
from tests.mlflow_store import blank, client, empty, end, store, trial_runs, uri_of
from tests.processes import free_port

pytestmark = pytest.mark.usefixtures("tracked")


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """A database as the MLflow made it whose schema is one revision older."""
    path = tmp_path_factory.mktemp("older") / "mlflow.db"
    uri = f"sqlite:///{path}"
    engine = mlflow.store.db.utils.create_sqlalchemy_engine(uri)
    mlflow.store.db.utils.InitialBase.metadata.create_all(engine)
    config = mlflow.store.db.utils._get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, databases._revisions()[1])
    engine.dispose()
    change(path, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('of mine', 'active')")
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def change(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def revision_of(path):
    return databases._revision(path)


def experiments(path):
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM experiments")}


def test_an_older_database_is_upgraded_and_filled(store, older):
    shutil.copy(older, store.results)
    said = []
    follow.track(store, uri_of(store), said.append)
    assert "was upgraded for MLflow" in said[0] and len(trial_runs(client(store))) == 4
    assert revision_of(store.results / "mlflow.db") == databases._revisions()[0]
    assert not list(store.results.glob("mlflow.db.before*"))  # it can be built anew


def test_an_older_database_of_ones_own_is_copied_before_it_is_upgraded(store, older, tmp_path):
    path = tmp_path / "mine.db"
    shutil.copy(older, path)
    said = []
    follow.track(store, f"sqlite:///{path}", said.append)
    copy = tmp_path / f"mine.db.before-{revision_of(older)}"
    assert "was upgraded" in said[0] and str(copy) in said[0] and "of mine" in experiments(path) & experiments(copy)
    assert (revision_of(path), revision_of(copy)) == databases._revisions()[:2]


def stuck(path):
    """What an upgrade that was cut off leaves."""
    change(path, "CREATE TABLE _alembic_tmp_experiments (x INTEGER)")
    change(path, f"UPDATE alembic_version SET version_num = '{databases._revisions()[-2]}'")


def test_a_database_that_can_not_be_upgraded_is_built_anew(store):
    end(store, [])
    stuck(store.results / "mlflow.db")
    said = []
    follow.track(store, uri_of(store), said.append)
    assert (
        "it was renamed to mlflow.db.old-1, and a new database was created" in said[0]
        and len(trial_runs(client(store))) == 4
    )
    assert (store.results / "mlflow.db.old-1").is_file()


def test_one_of_ones_own_that_can_not_be_upgraded_is_left_with_the_remedy(store, older, tmp_path):
    path = tmp_path / "mine.db"
    shutil.copy(older, path)
    stuck(path)
    with pytest.raises(TrackingError, match=r"can't be upgraded for MLflow .*\. Move the file away") as refused:
        follow.track(store, f"sqlite:///{path}", pytest.fail)
    assert "\n" not in str(refused.value) and "of mine" in experiments(path)


def test_a_database_of_a_newer_mlflow_is_left_as_it_is(store):
    path = store.results / "mlflow.db"
    change(path, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(TrackingError, match=r"of a newer MLflow than .*pip install -U mlflow, or move"):
        follow.track(store, uri_of(store), pytest.fail)
    assert revision_of(path) == "ffffffffffff"
    assert "newer MLflow" in store.tracking()["error"]
    with pytest.raises(TrackingError, match="of a newer MLflow"):
        ui.serve(store.results, uri_of(store), free_port(), pytest.fail)


def test_a_database_with_tables_of_others_gets_those_of_mlflow(store, tmp_path):
    path = tmp_path / "studies.db"
    change(path, "CREATE TABLE studies (x INTEGER)")
    follow.track(store, f"sqlite:///{path}", lambda sentence: None)
    assert "smoke" in experiments(path) and "studies" in databases._tables(path)


def test_a_database_is_made_while_nobody_else_makes_it(tmp_path, monkeypatch):
    path, held = tmp_path / "new folder" / "mlflow.db", []
    upgrade = databases.mlflow.db.upgrade.callback

    def watched(url):
        held.append(locks.is_held(path.parent, path.name))
        upgrade(url)

    monkeypatch.setattr(databases.mlflow.db.upgrade, "callback", watched)
    for _ in range(2):
        databases.prepare(f"sqlite:///{path}", False, pytest.fail)
    assert held == [True] and revision_of(path) == databases._revisions()[0]


def test_processes_that_make_a_database_at_once_all_find_it_whole(tmp_path):
    path, go = tmp_path / "new.db", tmp_path / "go"
    code = f"""
import pathlib, time
from memsweep.results.storage.store import Store
from memsweep.results.mlflow.sync import Tracking
import sys
store = Store(sys.argv[1], create=True)
pathlib.Path(sys.argv[1], "ready").touch()
while not pathlib.Path({str(go)!r}).exists():
    time.sleep(0.01)
Tracking(store, "sqlite:///{path}").fill()
"""
    folders = [tmp_path / name for name in ("one", "two", "three")]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE, text=True)
        for folder in folders
    ]
    until = time.monotonic() + 120
    while not all((folder / "ready").exists() for folder in folders):
        assert time.monotonic() < until and all(process.poll() is None for process in processes)
        time.sleep(0.1)
    go.touch()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert not any(name.startswith("_alembic_tmp") for name in databases._tables(path))


@pytest.mark.parametrize("umask", [0o002, 0o022])
def test_a_database_is_as_writable_as_parts(tmp_path, umask):
    path = tmp_path / "mlflow.db"
    before = os.umask(umask)
    try:
        databases.prepare(f"sqlite:///{path}", True, pytest.fail)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_place_where_no_database_can_be_is_one_message(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match="can't be created or changed"):
        follow.track(store, f"sqlite:///{tmp_path}/file/mlflow.db", pytest.fail)


@pytest.mark.parametrize("name", ["run:1", "a b", "a%20b", "a#b", "a?b"])
def test_a_folder_of_any_name_is_filled(name, store, blank, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    moved = type(store)(store.results.rename(tmp_path / name))
    follow.track(moved, uri_of(moved), lambda sentence: None)
    assert len(trial_runs(client(moved))) == 4
    (plan,) = moved.results.glob("mlartifacts/smoke/*/artifacts/plan.csv")
    assert plan.is_file()
    assert {path.name for path in tmp_path.iterdir()} <= {name, "state"}


def test_a_driver_that_is_absent_is_one_message(store, monkeypatch):
    monkeypatch.setattr(follow, "SHORT_PAUSES", ())
    with pytest.raises(TrackingError, match=r"MLflow at mssql.*can't be filled"):
        follow.track(store, "mssql+absent://me@127.0.0.1/db", pytest.fail)


def test_what_a_silent_server_answers_is_noted_for_status(store, monkeypatch):
    monkeypatch.setattr(follow, "SHORT_PAUSES", ())
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError):
        follow.track(store, address, pytest.fail)
    note = store.tracking()
    assert note["error"] and note["since"] and "secret" not in str(note)
    with pytest.raises(TrackingError):
        follow.track(store, address, pytest.fail)
    assert store.tracking()["since"] == note["since"]
    follow.track(store, uri_of(store), lambda sentence: None)
    note = store.tracking()
    assert note["error"] is None and note["since"] is None and note["held"] == {"smoke": 4}
    assert MlflowClient(uri_of(store)).search_experiments()


def test_an_older_database_that_is_not_upgraded_is_one_message(store, blank, tmp_path, monkeypatch):
    """A database on a server is left to its owner; a URI with options stands for it."""
    monkeypatch.setattr(follow, "SHORT_PAUSES", ())
    path = shutil.copy(blank, tmp_path)
    change(path, f"UPDATE alembic_version SET version_num = '{databases._revisions()[1]}'")
    uri = f"sqlite:///{path}?timeout=3"
    with pytest.raises(TrackingError, match=r"can't be filled: Detected out-of-date .*mlflow db upgrade"):
        follow.track(store, uri, pytest.fail)
    with pytest.raises(TrackingError, match=r"can't be shown: Detected out-of-date .*mlflow db upgrade"):
        ui.serve(store.results, uri, free_port(), pytest.fail)
