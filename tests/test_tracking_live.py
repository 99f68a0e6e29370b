"""MLflow shows trials in training as RUNNING, with their curves, until their runs replace them."""

from datetime import timedelta

import pytest
from mlflow.entities import ViewType

from memsweep.results.mlflow import training
from memsweep.results.mlflow.sync import Tracking
from memsweep.run.rounds.definition import write_wanted
from tests.cases import NOON
from tests.mlflow_store import SMOKE, all_runs, blank, client, empty, end, history, measured, trial_runs, uri_of

pytestmark = pytest.mark.usefixtures("tracked")
ONE, OTHER = SMOKE.trials[:2]


@pytest.fixture
def store(empty):
    write_wanted(SMOKE, SMOKE.trials, empty)
    return empty


def show(store, trial, numbers, attempt="a", minute=0):
    """What a worker writes of a trial in training."""
    begun = {"begun_at": NOON + timedelta(minutes=minute)}
    store.write("live", [{**measured(trial.trial_id, attempt, 4 * n, 50 * n), **begun} for n in numbers])


def states(store):
    """trial_id -> status of its run, and the steps of its curve."""
    made = client(store)
    return {
        trial_id: (run.info.status, [step for step, _, _ in history(made, run, "train_accuracy")])
        for trial_id, run in trial_runs(made).items()
    }


def test_a_trial_in_training_is_a_running_run_until_it_ends(store):
    tracking = Tracking(store, uri_of(store))
    with store.lock():
        show(store, ONE, (1, 2))
        show(store, OTHER, (1,))
        tracking.fill()
        assert states(store) == {ONE.trial_id: ("RUNNING", [4, 8]), OTHER.trial_id: ("RUNNING", [4])}
        run = trial_runs(client(store))[ONE.trial_id]
        assert run.info.run_name == "noise0 wd0 s0" and run.data.tags["status"] == "training"
        assert run.data.params["seed"] == "0" and run.data.tags["role"] == "trial"
        show(store, ONE, (3,))
        end(store, [OTHER])
        tracking.fill()
        assert states(store) == {ONE.trial_id: ("RUNNING", [4, 8, 12]), OTHER.trial_id: ("FINISHED", [4, 8])}
        tracking.fill()
        assert trial_runs(client(store))[ONE.trial_id].info.run_id == run.info.run_id
        show(store, ONE, (1,), "b", minute=1)  # after a death its training began anew
        tracking.fill()
        assert states(store)[ONE.trial_id] == ("RUNNING", [4])
    tracking.fill()  # the launch is dead, its rows remain
    assert states(store) == {OTHER.trial_id: ("FINISHED", [4, 8])}


def test_runs_of_a_killed_process_go_at_the_next_pass(store):
    with store.lock():
        show(store, ONE, (1,))
        Tracking(store, uri_of(store)).fill()
    Tracking(store, uri_of(store)).fill()
    assert states(store) == {}
    assert [run.info.status for run in all_runs(client(store), view=ViewType.DELETED_ONLY)] == ["RUNNING"]


def test_a_stated_number_of_trials_and_points_is_shown(store, monkeypatch):
    monkeypatch.setattr(training, "MOST_RUNS", 2)
    monkeypatch.setattr(training, "POINTS_A_PASS", 3)
    with store.lock():
        for trial in SMOKE.trials[:4]:
            show(store, trial, range(1, 8))
        tracking = Tracking(store, uri_of(store))
        tracking.fill()
        assert states(store) == {trial.trial_id: ("RUNNING", [4, 16, 28]) for trial in (ONE, OTHER)}
        end(store, [ONE])
        tracking.fill()
        assert set(states(store)) == {trial.trial_id for trial in SMOKE.trials[:3]}
