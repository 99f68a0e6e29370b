"""MLflow holds exactly what the tables say, each trial once, whatever happened to it before."""

import json
import math
import shutil

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from memsweep.results.mlflow import projection, sync
from memsweep.results.mlflow import trial_runs as ended_runs
from memsweep.results.mlflow.pages import pages
from memsweep.results.mlflow.sync import Tracking
from memsweep.results.storage.store import Store
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.rounds.replay import give_up
from memsweep.spec.schema import Status
from memsweep.spec.sweep import Sweep
from tests.cases import ended
from tests.mlflow_store import (
    NOON_MS,
    SMOKE,
    TRIALS,
    all_runs,
    blank,
    by_client,
    client,
    empty,
    end,
    fill,
    history,
    measured,
    memsweep_,
    store,
    the_parent,
    trial_runs,
    uri_of,
    whole,
)

pytestmark = pytest.mark.usefixtures("tracked")


# What a run holds.


def test_a_trial_is_a_run_with_its_fields_curves_and_times(store):
    fill(store)
    run = trial_runs(client(store))[TRIALS[0].trial_id]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "noise0 wd0 s0")
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
    counts = {"wanted_count": "12", "finished_count": "4", "failed_count": "2", "missing_count": "6"}
    assert parent.data.metrics == {} and counts.items() <= parent.data.tags.items()
    assert parent.data.params["model.family"] == "mlp" and "data.noise_fraction" not in parent.data.params
    assert parent.info.status == "KILLED"  # nobody is at work on the six that are missing
    (plan,) = store.results.glob("mlartifacts/smoke/*/artifacts/plan.csv")
    assert plan.read_text().splitlines()[1] == f"{TRIALS[0].trial_id},noise_fraction=0 weight_decay=0,0"
    assert len(plan.read_text().splitlines()) == 13


def test_the_views_show_columns_that_there_are(store):
    fill(store)
    (page,) = pages(uri_of(store)).values()
    tags = client(store).get_experiment_by_name("smoke").tags
    view = json.loads(tags[f"mlflow.sharedViewState.{page.rpartition('=')[2]}"])
    run = trial_runs(client(store))[TRIALS[0].trial_id]
    there = {f"{kind}.`{name}`" for kind in ("metrics", "params", "tags") for name in getattr(run.data, kind)}
    lacking = {f"metrics.`{name}`" for name in ("train_loss_nats", "validation_loss_nats", "test_loss_nats")}
    lacking |= {"metrics.`memorized_share`", "metrics.`recovered_share`"}  # not in the rows of this test
    lacking |= {"metrics.`gradient_norm`"}
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


def test_gradient_norms_are_a_curve_and_what_has_one_value_is_no_curve(empty):
    """MLflow draws a metric whose last step is 0 as bars, any other as lines, which of one value are dots."""
    write_wanted(SMOKE, TRIALS[:1], empty)
    end(empty, TRIALS[:1], gradient_norm=0.25, fitted_step=8)
    empty.write("steps", [{**measured(TRIALS[0].trial_id, "a", 6, 50), "gradient_norm": 0.5}])
    fill(empty)
    (run,) = trial_runs(client(empty)).values()
    assert [point[:2] for point in history(client(empty), run, "gradient_norm")] == [(6, 0.5), (8, 0.25)]
    for name, value in (("fitted_step", 8), ("test_accuracy", 0.9)):
        assert [point[:2] for point in history(client(empty), run, name)] == [(0, value)]


def test_the_views_show_curves_first_and_no_parent(store):
    fill(store)
    tags = client(store).get_experiment_by_name("smoke").tags
    for key in ("trials", "settings"):
        state = json.loads(json.loads(tags[f"mlflow.sharedViewState.memsweep-{key}"])["state"])
        charts = [(chart["metricKey"], chart["type"], chart["metricSectionId"]) for chart in state["compareRunCharts"]]
        assert charts[0] == ("train_accuracy", "LINE", "curves") and ("gradient_norm", "LINE", "curves") in charts
        assert [section["name"] for section in state["compareRunSections"]] == ["Curves", "Model metrics"]
        experiment = client(store).get_experiment_by_name("smoke").experiment_id
        found = client(store).search_runs([experiment], state["searchFilter"])
        assert {run.info.run_id for run in found} == {r.info.run_id for r in trial_runs(client(store)).values()}


def test_a_parent_with_metrics_of_an_older_version_is_replaced(store):
    fill(store)
    old = the_parent(client(store))
    client(store).log_metric(old.info.run_id, "finished_count", 4)
    assert fill(store).deleted == 1
    new = the_parent(client(store))
    assert new.info.run_id != old.info.run_id and new.data.metrics == {}
    parents = {run.data.tags["mlflow.parentRunId"] for run in trial_runs(client(store)).values()}
    assert parents == {new.info.run_id}


def test_names_of_runs_are_short_and_differ():
    decays = [0.0, 1e-6, 3.1622776601683795e-06, 1000.0, 1002.0, 1024.0]
    rows = [
        {"regularization.weight_decay": decay, "model.family": family, "my.own_field": 1}
        for decay in decays
        for family in ("mlp", "my_lab:Residual", "a:Net", "b:Net")
    ]
    made = projection._plan("s", [wanted_row(f"{i:02}", row) for i, row in enumerate(rows)])
    names = [trial.name for trial in made.trials.values()]
    assert names[::4] == [f"wd{decay} family=mlp s0" for decay in ("0", "1e-6", "3.16e-6", "1000", "1002", "1024")]
    assert names[1:3] == ["wd0 family=Residual s0", "wd0 family=a:Net s0"] and len(set(names)) == len(names)


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


@pytest.mark.parametrize("step_count", [8, 10, 0, None])
def test_curves_computed_by_column_have_the_values_of_each_row(empty, step_count):
    write_wanted(SMOKE, TRIALS[:2], empty)
    odd = [
        *({"train_correct_count": None}, {"label_changed_count": 0, "memorized_count": 0}, {"gradient_norm": 0.5}),
        *({"train_loss_sum_nats": math.inf}, {"gradient_norm": math.nan, "train_count": 0, "train_loss_sum_nats": 1.0}),
    ]
    for i, trial in enumerate(TRIALS[:2]):
        of_rows = zip((6, 1, 7, 2, 5), odd, strict=True)
        empty.write("steps", [{**measured(trial.trial_id, "a", n + i, n), **row} for n, row in of_rows])
    end(empty, TRIALS[:2], step_count=step_count, gradient_norm=0.25)  # and rows of steps 4 and 8
    (plan,) = projection.plans(empty.current("wanted"))
    ends = empty.trial_rows([trial.trial_id for trial in TRIALS[:2]])
    for trial_id, run in ended_runs.trial_runs(empty, plan, ends, lambda wanted: {}).items():
        steps = [row for row in empty.rows_of("steps", {"a"}).to_pylist() if row["trial_id"] == trial_id]
        rows = {row["step"]: row for row in steps}
        last = max(rows) if step_count is None else step_count
        rows[last] = ends[trial_id]
        expected = [projection.Point("test_accuracy", 0.9, NOON_MS, 0)]
        for step, row in rows.items():
            expected += projection.points_of(row, step, NOON_MS - round(4000 * (1 - step / last)) if last else NOON_MS)
        assert sorted(run.points) == sorted(expected)


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
    row = {"sweep": "s", "trial_id": trial_id, "setting_id": "x", "position": 0, "seed": seed}
    return row | {"probes": "", "metrics": None, "configuration": json.dumps(configuration)}


# Again and again.


def test_a_second_pass_changes_nothing(store):
    fill(store)
    before, count = whole(client(store)), len(all_runs(client(store), view=ViewType.ALL))
    again = fill(store)
    again.fill()
    assert (again.written, again.deleted) == (0, 0)
    assert whole(client(store)) == before and len(all_runs(client(store), view=ViewType.ALL)) == count == 5


def test_repeating_every_call_writes_the_same_rows(store, by_client, monkeypatch):
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


def test_one_log_batch_a_trial(store, by_client, monkeypatch):
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
def test_a_crash_at_any_call_leaves_each_trial_once_and_whole(store, by_client, monkeypatch, call, happened, number):
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
    monkeypatch.setattr(sync, "RUNS_A_PAGE", 3)
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
    assert first.info.run_name == "noise0 activation=relu wd0 s0"
    assert first.data.params["model.activation"] == "relu"
    parent = the_parent(client(store))
    assert "model.activation" not in parent.data.params and parent.data.tags["wanted_count"] == "24"
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
        store.note_running({"p": [SMOKE.trials[5].trial_id]})
        fill(store)
        assert the_parent(client(store)).info.status == "RUNNING"
    fill(store)
    assert the_parent(client(store)).info.status == "KILLED"
    end(store, SMOKE.trials[4:], attempt="b")
    fill(store)
    assert the_parent(client(store)).info.status == "FINISHED"
