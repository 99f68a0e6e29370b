"""Searches replayed on tables written by hand: where they stand, and who was given up on the way there."""

import pytest

from memsweep import BestSearch, Sweep
from memsweep.results.compaction import compact
from memsweep.results.storage.store import Store
from memsweep.run.rounds.replay import Replay
from memsweep.run.rounds.rounds import Rounds
from memsweep.spec.budget import Budget
from tests.cases import ended, step

SEARCH = BestSearch(
    {"optimizer.learning_rate": (0.01, 0.1, 1.0)},
    **{"sampler": "grid", "configurations": 3, "at_a_time": 3, "halving": 3, "smallest_share": 0.3},
)
SWEEP = Sweep("rates", {"data.examples": 100, "optimizer.epochs": 9}, search=SEARCH)  # 9 steps, a rung at 3
RIGHT = {0.01: 50, 0.1: 90, 1.0: 20}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def write(store, trial, status, last, attempt="a", right=None):
    """A trial that was measured after every step up to the last."""
    counts = {"validation_correct_count": right or RIGHT[trial.optimizer.learning_rate], "validation_count": 100}
    store.write("steps", [step(trial.trial_id, attempt, number, **counts) for number in range(1, last + 1)])
    own = {"step_count": last if status == "finished" else None, **counts}
    store.write("trials", [ended(trial.trial_id, status, attempt, **own)])


def statuses(store):
    table = store.trials(["trial_id", "status"]).to_pydict()
    return dict(zip(table["trial_id"], table["status"], strict=True))


def test_a_rung_is_over_when_all_are_paused_and_the_best_goes_on(store):
    first = Replay(SWEEP, store)
    assert len(first.missing()) == 3 and first.number == 1
    trials = first.round.trials
    for trial in trials:
        write(store, trial, "interrupted", 3)
    second = Replay(SWEEP, store)
    (best,) = second.missing()
    assert best.optimizer.learning_rate == 0.1 and second.round.share == 1
    assert {t.optimizer.learning_rate for t in second.given_up} == {0.01, 1.0}


def test_one_that_was_killed_before_its_pause_is_missing(store):
    trials = Replay(SWEEP, store).round.trials
    for trial, last in zip(trials, (3, 2, 3), strict=True):
        write(store, trial, "interrupted", last)
    assert Replay(SWEEP, store).missing() == [trials[1]]


def test_those_given_up_in_rounds_that_are_passed_by_are_pruned_and_stay_so_when_compacted(store):
    """As after a kill between a rung's end and its decision, where the survivor was finished for another sweep."""
    trials = Replay(SWEEP, store).round.trials
    for trial in trials:
        write(store, trial, "interrupted", 3)
    write(store, trials[1], "finished", 9, "b", right=95)
    over = Replay(SWEEP, store)
    assert over.round is None and "validation_accuracy 0.95" in over.progress
    Rounds([over], store).note()
    assert [statuses(store)[trial.trial_id] for trial in trials] == ["pruned", "finished", "pruned"]
    compact(store)
    assert [statuses(store)[trial.trial_id] for trial in trials] == ["pruned", "finished", "pruned"]
    assert len(store.current("steps")) == 3 + 9 + 3
    assert Replay(SWEEP, store).progress == over.progress, "a replay reads the rung as it was"


def test_a_budget_of_trials_or_steps_is_what_is_handed_out(store):
    grid = Sweep("grid", {"data.examples": 100, "optimizer.epochs": 9}, seeds=range(10))
    assert len(Rounds([Replay(grid, store)], store, Budget(trials=4)).missing) == 4
    assert len(Rounds([Replay(grid, store)], store, Budget(steps=30)).missing) == 3  # of 9 steps each
    searched = Rounds([Replay(SWEEP, store)], store, Budget(steps=7))
    assert len(searched.missing) == 2  # of 3 steps each, up to the rung
    assert searched.next() == [(([]), SEARCH.rungs()[0], True)]


def test_what_was_asked_is_known_without_counting_again():
    """It is told to people with each report of each worker."""
    rounds = Rounds([Replay(Sweep("grid", {}, seeds=range(10)), None)], None)
    assert rounds.trials is rounds.trials and len(rounds.trials) == 10
