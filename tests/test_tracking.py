"""MLflow holds exactly what the tables say, each trial once, whatever happened to it, to its server or to a process."""

import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from memsweep import ui
from memsweep.launch import launcher
from memsweep.launch.asking import give_up
from memsweep.launch.driver import write_wanted
from memsweep.results import background, follow, projection, tracking
from memsweep.results.store import Store
from memsweep.results.tracking import Tracking, TrackingError
from memsweep.schema import Status, cell
from memsweep.sweep import Sweep, load_sweep
from tests.cases import NOON, ended, step
from tests.processes import free_port, mlflow_server

pytestmark = pytest.mark.usefixtures("tracked")
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


# What a run holds.


def test_a_trial_is_a_run_with_its_fields_curves_and_times(store):
    fill(store)
    run = trial_runs(client(store))[TRIALS[0].trial_id]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "noise_fraction=0 weight_decay=0 seed=0")
    assert (run.info.start_time, run.info.end_time) == (NOON_MS - 4000, NOON_MS)
    tags = {"trial_id": TRIALS[0].trial_id, "attempt_id": "a", "setting_id": TRIALS[0].setting_id, "pack_id": "pack"}
    tags |= {"setting": "noise_fraction=0 weight_decay=0", "status": "finished", "sweep": "smoke"}
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.parentRunId"] == the_parent(client(store)).info.run_id
    params = {"seed": "0", "data.noise_fraction": "0", "regularization.weight_decay": "0", "model.width": "16"}
    assert params.items() <= run.data.params.items() and "model.family" not in run.data.params
    assert history(client(store), run, "train_accuracy") == [(4, 0.25, NOON_MS - 2000), (8, 0.5, NOON_MS)]
    assert run.data.metrics["validation_accuracy"] == 0.6 and run.data.metrics["test_accuracy"] == 0.9


def test_a_sweep_is_an_experiment_of_the_ordinary_kind_with_a_run_above_its_trials(store):
    end(store, SMOKE.trials[4:6], "failed", "b")
    fill(store)
    found = client(store).get_experiment_by_name("smoke")
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert found.artifact_location == f"{(store.results / 'mlartifacts').as_uri()}/smoke"
    parent = the_parent(client(store))
    assert parent.data.metrics == {"wanted_count": 12, "finished_count": 4, "failed_count": 2, "missing_count": 6}
    assert parent.data.params["model.family"] == "mlp" and "data.noise_fraction" not in parent.data.params
    assert parent.info.status == "KILLED"  # nobody is at work on the six that are missing
    (plan,) = store.results.glob("mlartifacts/smoke/*/artifacts/plan.csv")
    assert plan.read_text().splitlines()[1] == f"{TRIALS[0].trial_id},noise_fraction=0 weight_decay=0,0"
    assert len(plan.read_text().splitlines()) == 13


def test_the_views_show_columns_that_there_are(store):
    fill(store)
    (page,) = tracking.pages(uri_of(store)).values()
    tags = client(store).get_experiment_by_name("smoke").tags
    view = json.loads(tags[f"mlflow.sharedViewState.{page.rpartition('=')[2]}"])
    run = trial_runs(client(store))[TRIALS[0].trial_id]
    there = {f"{kind}.`{name}`" for kind in ("metrics", "params", "tags") for name in getattr(run.data, kind)}
    lacking = {f"metrics.`{name}`" for name in ("train_loss_nats", "validation_loss_nats", "test_loss_nats")}
    lacking |= {"metrics.`memorized_share`", "metrics.`recovered_share`"}  # not in the rows of this test
    assert (
        set(json.loads(view["state"])["selectedColumns"])
        == there & set(json.loads(view["state"])["selectedColumns"]) | lacking
    )


@pytest.mark.parametrize("status", [status.value for status in Status])
def test_how_a_trial_ended_is_how_its_run_ended(empty, status):
    write_wanted(SMOKE, TRIALS[:1], empty)
    end(empty, TRIALS[:1], status, cause="Traceback\nValueError: no luck\n")
    fill(empty)
    (run,) = trial_runs(client(empty)).values()
    expected = {"finished": "FINISHED", "pruned": "FINISHED", "diverged": "FINISHED", "interrupted": "KILLED"}
    assert run.info.status == expected.get(status, "FAILED") and run.data.tags["status"] == status
    assert run.data.tags.get("cause") == ("ValueError: no luck" if run.info.status == "FAILED" else None)


def test_values_that_are_no_numbers_are_left_out(empty):
    write_wanted(SMOKE, TRIALS[:1], empty)
    fields = {"train_loss_sum_nats": math.nan, "validation_loss_sum_nats": math.inf, "gradient_norm": -math.inf}
    end(empty, TRIALS[:1], "diverged", **fields, label_changed_count=0, memorized_count=0, test_count=0)
    fill(empty)
    (run,) = trial_runs(client(empty)).values()
    assert set(run.data.metrics) == {"train_accuracy", "validation_accuracy"}


def test_a_trial_that_failed_before_it_began_has_a_run(empty):
    write_wanted(SMOKE, TRIALS[:1], empty)
    empty.write("trials", [ended(TRIALS[0].trial_id, "failed", cause="early", finished_at=None)])
    fill(empty)
    (run,) = trial_runs(client(empty)).values()
    assert run.info.status == "FAILED" and run.data.metrics == {}


def test_long_curves_are_thinned_to_one_call(empty):
    write_wanted(SMOKE, TRIALS[:1], empty)
    end(empty, TRIALS[:1], step_count=3000, train_correct_count=77)
    trial = TRIALS[0].trial_id
    loss = {"train_loss_sum_nats": 1.0, "validation_loss_sum_nats": 1.0, "memorized_count": 1, "recovered_count": 1}
    empty.write("steps", [{**measured(trial, "a", n, 50), **loss} for n in range(10, 3001)])
    fill(empty)
    (run,) = trial_runs(client(empty)).values()
    curve = sorted(history(client(empty), run, "train_accuracy"))
    assert len(curve) == projection.CURVE_POINTS and curve[-1][:2] == (3000, 77 / 200)


@pytest.mark.parametrize("length", [0, 1, 2, 99, 100, 101, 1234])
def test_thinning_keeps_both_ends_and_the_order(length):
    steps = list(range(5, 5 + length))
    kept = projection.thinned(steps)
    assert len(kept) == len(set(kept)) == min(length, 100) and kept == sorted(kept)
    assert kept[:1] == steps[:1] and kept[-1:] == steps[-1:]


def test_the_number_of_parameters_is_a_parameter(empty):
    write_wanted(SMOKE, SMOKE.trials, empty)
    end(empty, TRIALS[:1], parameter_count=1234)
    end(empty, TRIALS[1:2])
    fill(empty)
    sized, unsized = (trial_runs(client(empty))[trial.trial_id].data for trial in TRIALS[:2])
    assert sized.params["parameter_count"] == "1234" and "parameter_count" not in unsized.params
    assert "parameter_count" not in sized.metrics


def test_fields_of_equal_name_are_told_apart():
    rows = [{"optimizer.name": o, "my.name": m, "model.width": w} for o in "ab" for m in "cd" for w in (1, 2)]
    made = projection._plan("s", [wanted_row(str(i), row) for i, row in enumerate(rows)])
    assert made.trials["0"].setting == "optimizer.name=a my.name=c width=1"


def test_a_sweep_of_one_setting_says_so():
    made = projection._plan("s", [wanted_row("t", {"model.width": 3}, 0), wanted_row("u", {"model.width": 3}, 1)])
    assert made.trials["t"].setting == projection.ONLY_SETTING and made.shared == {"model.width": "3"}


def wanted_row(trial_id, configuration, seed=0):
    row = {"sweep": "s", "trial_id": trial_id, "setting_id": "x", "position": 0, "seed": seed, "probes": ""}
    return row | {"configuration": json.dumps(configuration)}


# Again and again.


def test_a_second_pass_changes_nothing(store):
    fill(store)
    before, count = whole(client(store)), len(all_runs(client(store), view=ViewType.ALL))
    again = fill(store)
    again.fill()
    assert (again.written, again.deleted) == (0, 0)
    assert whole(client(store)) == before and len(all_runs(client(store), view=ViewType.ALL)) == count == 5


def test_repeating_every_call_writes_the_same_rows(store, monkeypatch):
    for name in ("log_batch", "set_terminated", "set_tag"):
        once = getattr(MlflowClient, name)
        monkeypatch.setattr(MlflowClient, name, lambda *a, o=once, **k: (o(*a, **k), o(*a, **k))[1])
    fill(store)
    twice = whole(client(store))
    monkeypatch.undo()
    for run in all_runs(client(store)):
        client(store).delete_run(run.info.run_id)
    fill(store)
    assert whole(client(store)) == twice


def test_one_log_batch_a_trial(store, monkeypatch):
    calls = []
    log_batch = MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *a, **k: (calls.append(a[1]), log_batch(*a, **k)))
    fill(store)
    assert all(calls.count(run.info.run_id) == 1 for run in trial_runs(client(store)).values())


def test_a_wiped_database_is_filled_again(store):
    fill(store)
    before = whole(client(store))
    for path in store.results.glob("mlflow.db*"):
        path.unlink()
    filled = memsweep_("track", "--results", store.results, MLFLOW_TRACKING_URI="")  # this process has the old one open
    assert filled.returncode == 0 and "4 runs written, 0 deleted" in filled.stderr and filled.stdout == ""
    moved = MlflowClient(f"sqlite:///{shutil.move(store.results / 'mlflow.db', store.results / 'new.db')}")
    assert whole(moved) == before


@pytest.mark.parametrize("what", ["a run", "the sweep's run", "the experiment"])
def test_what_was_deleted_in_mlflow_comes_back(store, what):
    fill(store)
    before = whole(client(store))
    if what == "a run":
        client(store).delete_run(trial_runs(client(store))[TRIALS[1].trial_id].info.run_id)
    elif what == "the sweep's run":
        client(store).delete_run(the_parent(client(store)).info.run_id)
    else:
        end(store, TRIALS[:1], "finished", "b", minute=-5)  # so that a deleted run of an old attempt comes back too
        fill(store)
        before = whole(client(store))
        client(store).delete_experiment(client(store).get_experiment_by_name("smoke").experiment_id)
    fill(store)
    assert whole(client(store)) == before
    assert fill(store).written == 0


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize("first", ["interrupted", "failed"])
def test_a_trial_that_was_tried_again_has_the_new_run_only(store, first, same_process):
    again = SMOKE.trials[4:6]
    end(store, again, first, "b", cause="no luck")
    made = fill(store)
    assert trial_runs(client(store))[again[0].trial_id].data.tags["attempt_id"] == "b"
    end(store, again, "finished", "c", minute=1)
    made = made if same_process else Tracking(store, uri_of(store))
    made.fill()
    assert made.deleted == 2
    runs = trial_runs(client(store))
    assert len(runs) == 6 and all(
        (runs[t.trial_id].data.tags["attempt_id"], runs[t.trial_id].info.status) == ("c", "FINISHED") for t in again
    )


@pytest.mark.parametrize("same_process", [True, False])
def test_a_paused_attempt_that_is_given_up_has_one_run_that_says_so(store, same_process):
    paused = SMOKE.trials[4:6]
    end(store, paused, "interrupted", "b")
    made = fill(store)
    give_up(paused, store)
    made = made if same_process else Tracking(store, uri_of(store))
    made.fill()
    runs = trial_runs(client(store))
    assert {runs[t.trial_id].data.tags["status"] for t in paused} == {"pruned"}
    assert {runs[t.trial_id].info.status for t in paused} == {"FINISHED"}
    made.fill()
    assert (made.deleted, len(runs)) == (2, 6)


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated"])
@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_crash_at_any_call_leaves_each_trial_once_and_whole(store, monkeypatch, call, happened, number):
    """Also a call that happened although its answer never came."""
    undisturbed = getattr(MlflowClient, call)
    calls = []

    def crash(*arguments, **options):
        calls.append(call)
        if len(calls) != number:
            return undisturbed(*arguments, **options)
        if happened:
            undisturbed(*arguments, **options)
        raise MlflowException("timeout")

    monkeypatch.setattr(MlflowClient, call, crash)
    made = Tracking(store, uri_of(store))
    with pytest.raises(MlflowException):
        made.fill()
    made.forget()
    made.fill()
    after = whole(client(store))
    assert len(after) == 5
    assert fill(store).written == 0 and whole(client(store)) == after
    assert all(run.data.metrics and run.data.params for run in trial_runs(client(store)).values())


def test_doubles_are_deleted_however_many_pages_there_are(store, monkeypatch):
    fill(store)
    before = whole(client(store))
    for run in trial_runs(client(store)).values():
        for status in ("FINISHED", "RUNNING", "FINISHED"):
            made = client(store).create_run(run.info.experiment_id, run.info.start_time, run.data.tags)
            client(store).update_run(made.info.run_id, status)
    monkeypatch.setattr(tracking, "RUNS_A_PAGE", 3)
    assert fill(store).deleted == 12
    assert {t: run[0] for t, run in whole(client(store)).items()} == {t: run[0] for t, run in before.items()}
    assert len(trial_runs(client(store))) == 4


def test_runs_of_others_are_left_alone(store):
    fill(store)
    experiment = client(store).get_experiment_by_name("smoke").experiment_id
    own = client(store).create_run(experiment, tags={"trial_id": "mine"}).info.run_id
    fill(store)
    assert client(store).get_run(own).info.lifecycle_stage == "active"


def test_folders_that_share_a_server_leave_each_others_runs_alone(store, tmp_path):
    uri = uri_of(store)
    fill(store)
    other = Store(tmp_path / "other", create=True)
    write_wanted(SMOKE, SMOKE.trials, other)
    end(other, TRIALS[:3], attempt="theirs")
    before = {run.info.run_id for run in all_runs(client(store))}
    for folder, written in ((other, 3), (store, 0), (other, 0)):
        made = Tracking(folder, uri)
        made.fill()
        assert (made.written, made.deleted) == (written, 0)
    after = all_runs(client(store))
    assert before < {run.info.run_id for run in after}
    assert len(after) == len(before) + 4  # three trials, and a run above them
    parents = {run.data.tags.get("mlflow.parentRunId") for run in after}
    assert len(parents - {None}) == 2


def test_an_axis_that_was_added_renames_settings_and_keeps_runs(store):
    fill(store)
    ids = {trial: run.info.run_id for trial, run in trial_runs(client(store)).items()}
    wider = SMOKE.with_axes({"model.activation": ("relu", "tanh")})
    write_wanted(wider, wider.trials, store)
    fill(store)
    runs = trial_runs(client(store))
    assert {trial: run.info.run_id for trial, run in runs.items()} == ids
    first = runs[TRIALS[0].trial_id]
    assert first.data.tags["setting"] == "noise_fraction=0 activation=relu weight_decay=0"
    assert first.info.run_name == "noise_fraction=0 activation=relu weight_decay=0 seed=0"
    assert first.data.params["model.activation"] == "relu"
    parent = the_parent(client(store))
    assert "model.activation" not in parent.data.params and parent.data.metrics["wanted_count"] == 24
    assert fill(store).written == 0 and whole(client(store))


def test_a_trial_that_two_sweeps_want_has_a_run_in_each(store):
    write_wanted(Sweep("other", {}), TRIALS[:2], store)
    assert fill(store).written == 6
    assert len(trial_runs(client(store))) == 4 and len(trial_runs(client(store), "other")) == 2


def test_what_report_draws_is_stored_when_it_changes(store):
    (store.results / "figures").mkdir()
    (store.results / "report.html").write_text("one")
    (store.results / "figures" / "smoke-noise.svg").write_text("<svg/>")
    (store.results / "figures" / "other-noise.svg").write_text("<svg/>")
    fill(store)
    (folder,) = store.results.glob("mlartifacts/smoke/*/artifacts")
    assert {str(p.relative_to(folder)) for p in folder.rglob("*.*")} == {
        "plan.csv",
        "report.html",
        "figures/smoke-noise.svg",
    }
    (folder / "report.html").write_text("untouched")
    fill(store)
    assert (folder / "report.html").read_text() == "untouched"
    (store.results / "report.html").write_text("two")
    fill(store)
    assert (folder / "report.html").read_text() == "two"


def test_a_folder_that_was_moved_is_filled_anew_in_its_new_place(store, tmp_path):
    fill(store)
    before = whole(client(store))
    moved = Store(shutil.move(store.results, tmp_path / "100% new place"))
    assert fill(moved).written == 4
    assert whole(client(moved)) == before
    assert list(moved.results.glob("mlartifacts/smoke/*/artifacts/plan.csv")) and not store.results.exists()
    assert fill(moved).written == 0


def test_parts_that_appear_later_are_added(store):
    made = fill(store)
    end(store, SMOKE.trials[4:8], attempt="b")
    made.fill()
    assert made.written == 8 and len(trial_runs(client(store))) == 8


def test_a_live_launch_is_a_running_sweep(store):
    with store.lock("launch"):
        store.note_running([SMOKE.trials[5].trial_id])
        fill(store)
        assert the_parent(client(store)).info.status == "RUNNING"
    fill(store)
    assert the_parent(client(store)).info.status == "KILLED"
    end(store, SMOKE.trials[4:], attempt="b")
    fill(store)
    assert the_parent(client(store)).info.status == "FINISHED"


# Servers that fail.


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


def test_track_says_in_one_message_that_a_server_is_away(store, monkeypatch):
    monkeypatch.setattr(follow, "SHORT_PAUSES", (0.1, 0.1))
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:.* memsweep track again") as failed:
        follow.track(store, address, pytest.fail)
    assert "secret" not in str(failed.value) and "\n" not in str(failed.value)


def test_a_file_that_is_no_database_is_refused_at_once(store):
    (store.results / "mlflow.db").write_text("not a database, but long enough to be looked at as one" * 40)
    with pytest.raises(TrackingError, match="Move it away"):
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


def test_a_launch_is_followed_to_its_end_by_a_process_that_ends(tmp_path):
    launched = memsweep_("launch", "smoke", "--results", tmp_path, MLFLOW_TRACKING_URI="")
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
    wait_until(lambda: store.parts("trials"), 60, "no part was written")
    (follower,) = followers(tmp_path)
    assert psutil.Process(driver.pid) not in follower.parents() and follower.nice() == 19
    session = Path(f"/proc/{follower.pid}/autogroup")
    assert not session.exists() or session.read_text().endswith("nice 19\n")
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
