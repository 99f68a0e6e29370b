"""How far a launch is: what packs report of their steps, and what the queue of packs makes of it."""

import pytest

from memsweep.results.storage.store import Store
from memsweep.run.packing import TRAINING, Pack, Tally
from memsweep.run.ray_tune import PackQueue
from memsweep.run.worker import execution
from memsweep.run.worker.execution import run_pack
from tests.cases import trial
from tests.test_retries import World

TRIALS = tuple(trial(seed=seed) for seed in range(4))
STEPS = TRIALS[0].budget


class Watching(World):
    """Keeps what the launch is told."""

    tally = Tally()

    def watch(self, tally):
        self.tally = tally


def result(name="", **fields):
    return {**Tally()._asdict(), "node_id": name, **fields}


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(execution, "FIRST_STEPS", 3)
    monkeypatch.setattr(execution, "CHUNK_SECONDS", 1e-3)


def test_a_pack_reports_the_steps_that_are_left(tmp_path):
    seen = list(run_pack(Pack(TRIALS, 2), Store(tmp_path, create=True)))  # two wait for a slot
    assert all(tally.trained + tally.left == 4 * STEPS for tally in seen)
    assert seen[0].left < 4 * STEPS and seen[0].settled == 0
    assert seen[-1] == Tally(settled=4, failed=0, trained=4 * STEPS, left=0, phase=TRAINING)


def test_a_pack_that_goes_on_counts_what_was_saved(tmp_path):
    store = Store(tmp_path, create=True)
    running = run_pack(Pack(TRIALS, 4), store)
    before = [next(running) for _ in range(6)][-1]
    running.close()
    after = next(run_pack(Pack(TRIALS, 4), store))
    assert after.trained + after.left == before.left


def test_trials_that_end_early_leave_no_steps(tmp_path):
    fitting = tuple(trial(seed=seed, stop__fit=0.01) for seed in range(2))
    last = list(run_pack(Pack(fitting, 2), Store(tmp_path, create=True)))[-1]
    assert last.left == 0 and last.trained < 2 * STEPS and last.settled == 2


def test_a_launch_knows_all_steps_and_those_that_are_left():
    world = Watching()
    queue = PackQueue([Pack(TRIALS[:2], 2), Pack(TRIALS[2:], 2)], {}, world)
    queue.suggest("one")
    queue.on_trial_result("one", result())
    assert world.tally == Tally(left=4 * STEPS, steps=4 * STEPS)
    queue.on_trial_result("one", result(trained=100, left=2 * STEPS - 100))
    assert world.tally == Tally(trained=100, left=4 * STEPS - 100, steps=4 * STEPS)
    queue.suggest("two")
    queue.on_trial_complete("one", result(settled=2, failed=1, trained=150))
    queue.on_trial_result("two", result(trained=50, left=2 * STEPS - 50))
    assert world.tally == Tally(settled=2, failed=1, trained=200, left=2 * STEPS - 50, steps=4 * STEPS)


def test_what_checkpoints_hold_counts_as_done():
    world = Watching()
    world.steps = {TRIALS[0].trial_id: 30}
    queue = PackQueue([Pack(TRIALS, 4)], {}, world)
    queue.suggest("one")
    queue.on_trial_result("one", result(left=4 * STEPS))  # before it has looked into them
    assert world.tally == Tally(left=4 * STEPS - 30, steps=4 * STEPS)
    queue.on_trial_result("one", result(trained=10, left=4 * STEPS - 40))
    assert world.tally == Tally(trained=10, left=4 * STEPS - 40, steps=4 * STEPS)


def test_steps_of_a_dead_worker_that_were_not_saved_are_left_again():
    world = Watching()
    queue = PackQueue([Pack(TRIALS, 4)], {}, world)
    queue.suggest("one")
    queue.on_trial_result("one", result(trained=90, left=4 * STEPS - 90))
    world.steps = {TRIALS[0].trial_id: 40}
    queue.on_trial_complete("one", error=True)
    queue.suggest("again")
    queue.on_trial_result("again", result())
    assert world.tally == Tally(trained=90, left=4 * STEPS - 40, steps=4 * STEPS)


def test_rounds_of_a_search_add_their_steps():
    world = Watching()
    rounds = [[Pack(TRIALS[2:], 2, share=0.5)], []]
    world.more = lambda: rounds.pop(0)
    queue = PackQueue([Pack(TRIALS[:2], 2)], {}, world)
    queue.suggest("one")
    queue.on_trial_complete("one", result(settled=2, trained=2 * STEPS))
    queue.suggest("two")
    queue.on_trial_result("two", result(trained=1, left=9))
    half = sum(t.pause(0.5) for t in TRIALS[2:])
    assert world.tally == Tally(settled=2, trained=2 * STEPS + 1, left=9, steps=2 * STEPS + half)
