"""Curves of trials in training: in `steps` while they train, each measurement once, and replaced when they end."""

import random
from datetime import timedelta

import pytest

import memsweep
from memsweep import Sweep
from memsweep.engine.train.record import Record
from memsweep.results import live
from memsweep.results.compaction import compact
from memsweep.results.export import export
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.policy import execution_plan
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker import live as writing
from memsweep.run.worker.execution import run_pack
from tests.cases import NOON, ended, step

SWEEP = Sweep(
    "live",
    {"data.examples": 100, "data.test_examples": 0, "optimizer.epochs": 30, "optimizer.batch_size": 50},
    seeds=range(3),
)


@pytest.fixture(autouse=True)
def shown_at_once(monkeypatch):
    monkeypatch.setattr(writing, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(writing, "LONGEST_SECONDS", 0.0)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results", create=True)
    write_wanted(SWEEP, SWEEP.trials, store)
    return store


def pack_of(trials, store):
    chosen = execution_plan.choose(trials, store, "cpu", 1, compiling=False)
    (pack,) = plan.packs(trials, 1, None, chosen)
    return pack


def begun(trials, store, chunks=3):
    """A pack in training after some chunks; the caller closes it, or leaves it as a killed worker does."""
    training = run_pack(pack_of(trials, store), store)
    for _ in range(chunks):
        next(training)
    return training


def steps(store):
    """trial_id -> its steps in the order in which readers see them, and whether they are live."""
    frame = memsweep.table("steps", store.results).sort_values(["trial_id", "step"])
    return {trial: (rows["step"].tolist(), set(rows["is_live"])) for trial, rows in frame.groupby("trial_id")}


def whole(store):
    """Whether each trial has each of its measurements once, and none is live."""
    expected = {trial.trial_id: (list(range(2, 62, 2)), {False}) for trial in SWEEP.trials}
    return steps(store) == expected


def test_curves_are_read_while_trials_train(store):
    training = begun(SWEEP.trials, store)
    seen = steps(store)
    assert seen.keys() == {trial.trial_id for trial in SWEEP.trials}
    for at, is_live in seen.values():
        assert at and at == list(range(2, at[-1] + 2, 2)) and at[-1] < 60 and is_live == {True}
    assert len(store.current("steps")) == len(store.trials()) == 0  # what estimates and claims read
    answer = memsweep.sql("select count(*) as n, bool_and(is_live) as live from steps", store.results)
    assert answer.to_dict("records") == [{"n": sum(len(at) for at, _ in seen.values()), "live": True}]
    compact(store)
    assert steps(store) == seen
    assert export(store, "live", store.results / "out.csv") == 0
    for _ in training:
        pass
    assert whole(store) and not store.parts("live")


def test_a_killed_worker_leaves_rows_until_a_newer_training_has_some(store):
    first = begun(SWEEP.trials, store, chunks=6)  # never closed, as if it were killed
    left = steps(store)
    second = begun(SWEEP.trials, store, chunks=2)
    newer = steps(store)
    assert all(len(newer[trial][0]) < len(left[trial][0]) for trial in left)
    list(second)
    assert whole(store) and store.parts("live")
    live.delete(store, [SWEEP.trials[0].trial_id])
    assert store.parts("live")  # it has rows of other trials too
    live.delete(store, [trial.trial_id for trial in SWEEP.trials])
    assert not store.parts("live") and whole(store)
    first.close()


def test_twenty_kills_and_stops_at_random_show_each_measurement_once(store):
    chance, killed, furthest = random.Random(3), [], 0
    for _ in range(20):
        training = begun(SWEEP.trials, store, chunks=chance.randint(1, 3))
        seen = steps(store)
        assert seen.keys() == {trial.trial_id for trial in SWEEP.trials}
        assert all(at == list(range(2, at[-1] + 2, 2)) for at, _ in seen.values())
        furthest = max(furthest, *(at[-1] for at, _ in seen.values()))
        if chance.random() < 0.3:
            training.close()  # as Ctrl-C does
        else:
            killed.append(training)  # never closed
    assert 10 < furthest < 60 and len(killed) > 10
    list(begun(SWEEP.trials, store))
    assert whole(store)


def test_an_interrupted_trial_is_not_live_and_goes_on(store):
    training = begun(SWEEP.trials, store)
    before = steps(store)
    training.close()
    after = steps(store)
    assert all(after[trial][0][: len(at)] == at and after[trial][1] == {False} for trial, (at, _) in before.items())
    again = begun(SWEEP.trials, store, chunks=2)
    resumed = steps(store)
    assert all(is_live == {True} and len(set(at)) == len(at) for at, is_live in resumed.values())
    list(again)
    assert whole(store)


def test_trials_that_train_again_in_the_same_attempt_begin_anew(store, monkeypatch):
    """After an error the members train in halves, from a checkpoint or from their start."""
    from memsweep.engine.train import trainer

    advance, calls = trainer.advance, []

    def failing(program, state, *arguments):
        calls.append(len(state.members))
        if len(calls) == 6:
            raise RuntimeError("broken for once")
        return advance(program, state, *arguments)

    monkeypatch.setattr(trainer, "advance", failing)
    training = run_pack(pack_of(SWEEP.trials, store), store)
    for _ in training:
        assert all(len(set(at)) == len(at) for at, _ in steps(store).values())
    assert 1 in calls and whole(store)


def test_rows_that_cannot_be_written_are_written_later(store, monkeypatch):
    from memsweep.results.storage.store import StoreError

    write, failures = Store.write, []

    def failing(self, table, rows, *others):
        if table == "live" and not failures:
            failures.append(table)
            raise StoreError("the disk is full")
        return write(self, table, rows, *others)

    monkeypatch.setattr(Store, "write", failing)
    training = begun(SWEEP.trials, store, chunks=4)
    assert failures and all(at[0] == 2 for at, _ in steps(store).values())
    list(training)
    assert whole(store)


def test_rows_of_an_attempt_that_is_stored_are_hidden(store):
    """Its worker was killed after it had stored the trial as interrupted, and before it deleted its live rows."""
    store.write("live", [{**step("t", "a", n), "begun_at": NOON} for n in (2, 4)])
    store.write("steps", [step("t", "a", n) for n in (2, 4, 6)])
    store.write("trials", [ended("t", "interrupted", "a")])
    assert steps(store) == {"t": ([2, 4, 6], {False})}
    store.write("live", [{**step("t", "b", 8), "begun_at": NOON + timedelta(seconds=1)}])
    assert steps(store) == {"t": ([8], {True})}


def test_a_restart_replaces_what_was_written(store):
    """Members that can't be fused after all train again in turn, whose numbers may round otherwise."""
    curves = writing.LiveCurves(store, "a")
    for loss in (1.0, 2.0):
        points = [{"step": n, "train_loss_sum_nats": loss} for n in (2, 4)]
        curves.write({"t": Record(points[: int(3 - loss)], {})}, now=True)
        curves.restart()
    rows = memsweep.table("steps", store.results)
    assert rows[["step", "train_loss_sum_nats"]].values.tolist() == [[2, 2.0]]
    curves.close()
    assert not store.parts("live")
