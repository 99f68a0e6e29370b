"""A pack whose worker dies is handed out again; one that gains nothing is searched for the guilty, and only they go."""

import faulthandler
import subprocess
import sys
import textwrap

import pytest

from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import Pack
from memsweep.run.ray_tune import PackQueue, Searcher
from memsweep.run.recovery.hang_guard import COMPILING_SECONDS, HangGuard, LastWords, last_words
from memsweep.run.recovery.retries import DEATHS, TRIES
from memsweep.run.rounds.replay import Replay
from memsweep.run.rounds.rounds import Rounds
from memsweep.spec.budget import Budget
from memsweep.spec.sweep import Sweep
from tests.cases import ended, trial

TRIALS = tuple(trial(seed=seed) for seed in range(8))
CRASHED = LastWords(False, "Fatal Python error: Segmentation fault")
HUNG = LastWords(True, "Timeout (0:00:05)!")


class World:
    """Workers that die of guilty trials, and what the queue is told of it."""

    def __init__(self, guilty=(), words=CRASHED):
        self.guilty = {TRIALS[i].trial_id for i in guilty}
        self.words = words
        self.settled, self.steps = set(), {}
        self.quarantined = []
        self.handed_out = []
        self.preempted = set()  # machines

    def remaining(self, pack):
        gone = self.settled | {t.trial_id for p, *_ in self.quarantined for t in p.trials}
        trials = tuple(t for t in pack.trials if t.trial_id not in gone)
        return Pack(trials, min(pack.slots, len(trials))) if trials else None

    def reached(self, packs):
        return [sum(self.steps.get(t.trial_id, 0) for t in pack.trials) for pack in packs]

    def last_words(self, pack):
        return self.words

    def was_preempted(self, node_id):
        return node_id in self.preempted

    def quarantine(self, pack, deaths, words):
        self.quarantined.append((pack, deaths, words))

    def watch(self, tally):
        pass

    def note_progress(self, note):
        pass

    def note_running(self, packs):
        pass

    def more(self):
        return []

    def run(self, queue, on_turn=lambda turn, number: None, most=200):
        """Hands out packs until none is left; one with a guilty trial dies, any other settles."""
        for number in range(most):
            name = f"turn {number}"
            config = queue.suggest(name)
            if config == Searcher.FINISHED:
                return
            pack = Pack.from_json(config["pack"])
            self.handed_out.append(pack)
            guilty = on_turn(pack, number)
            if guilty is None:
                guilty = bool(self.guilty & {t.trial_id for t in pack.trials})
            if not guilty:
                self.settled |= {t.trial_id for t in pack.trials}
            queue.on_trial_complete(name, error=guilty)
        raise AssertionError("it never ends")


def queue_for(world, slots=8):
    return PackQueue([Pack(TRIALS, slots)], {"results": "r"}, world)


def given_up(world):
    return {t.trial_id for pack, *_ in world.quarantined for t in pack.trials}


@pytest.mark.parametrize("guilty", [(0,), (7,), (3,), (1, 6)])
def test_only_the_guilty_are_quarantined(guilty):
    world = World(guilty)
    world.run(queue_for(world))
    assert given_up(world) == world.guilty
    assert world.settled == {t.trial_id for t in TRIALS} - world.guilty
    assert all(len(pack.trials) == 1 and words is CRASHED for pack, _, words in world.quarantined)


def test_a_pack_is_tried_before_it_is_halved_with_fewer_slots_each_time():
    world = World((0,))
    world.run(queue_for(world))
    sizes = [(len(pack.trials), pack.slots) for pack in world.handed_out]
    assert sizes[: TRIES + 2] == [(8, 8), (8, 4), (8, 2), (4, 1), (4, 1)]
    assert world.quarantined[0][1] == TRIES + 3  # alone after three halvings


def test_a_pack_that_hangs_is_halved_at_once():
    world = World((0,), HUNG)
    world.run(queue_for(world))
    assert [len(pack.trials) for pack in world.handed_out][:2] == [8, 4]
    assert given_up(world) == world.guilty and world.quarantined[0][1] == 4


def test_kills_at_random_quarantine_nobody():
    """As long as a worker has settled or saved anything before it died."""
    world = World()
    first = TRIALS[0].trial_id

    def gain(pack, number):
        if number < 40:
            world.steps[first] = world.steps.get(first, 0) + 1
            return True

    world.run(queue_for(world), gain)
    assert not world.quarantined and len(world.settled) == 8
    assert {(len(pack.trials), pack.slots) for pack in world.handed_out} == {(8, 8)}


def test_what_a_dead_worker_has_settled_is_not_run_again():
    world = World()

    def settle(pack, number):
        if number < 7:
            world.settled.add(pack.trials[0].trial_id)
            return True

    world.run(queue_for(world), settle)
    assert [len(pack.trials) for pack in world.handed_out] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert not world.quarantined


def test_two_deaths_and_a_gain_start_the_count_anew():
    world = World()
    saved = iter([0, 0, 5, 5, 5, 9, 9, 9])

    def die(pack, number):
        if number < 8:
            world.steps[TRIALS[0].trial_id] = next(saved)
            return True

    world.run(queue_for(world), die)
    assert not world.quarantined and {len(pack.trials) for pack in world.handed_out} == {8}


def test_deaths_without_end_are_ended():
    trials = tuple(trial(seed=seed) for seed in range(64))
    world = World()
    world.guilty = {t.trial_id for t in trials}
    world.run(PackQueue([Pack(trials, 64)], {"results": "r"}, world))
    assert given_up(world) == world.guilty
    assert len(world.handed_out) <= DEATHS + 32  # and the halves that were waiting then


def test_machines_taken_away_with_notice_cost_no_tries():
    world = World()
    queue = queue_for(world)
    for number in range(3 * TRIES):
        name, machine = f"turn {number}", f"machine {number}"
        assert len(Pack.from_json(queue.suggest(name)["pack"]).trials) == 8
        queue.on_trial_result(name, {"settled": 0, "failed": 0, "node_id": machine})
        world.preempted.add(machine)
        queue.on_trial_complete(name, error=True)
    world.run(queue)
    assert not world.quarantined and [(len(p.trials), p.slots) for p in world.handed_out] == [(8, 8)]


# Results that can't be read back.


def test_trials_that_have_ended_and_are_not_in_the_tables_are_not_run_without_end(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", create=True)
    sweep = Sweep("s", {"data.task": "digits"}, seeds=range(3))
    rounds = Rounds([Replay(sweep, store)], store)
    assert len(rounds.missing) == 3
    rows = [ended(t.trial_id) for t in sweep.trials]
    store.write("trials", rows[:2])
    with pytest.raises(
        StoreError, match=rf"1 trials that have ended are not in its tables, e.g. {rows[2]['trial_id']}"
    ):
        rounds.next()
    store.write("trials", rows[2:])
    assert not any(due.trials for due in Rounds([Replay(sweep, store)], store).next())


def test_trials_that_a_budget_left_out_are_not_taken_for_lost(tmp_path):
    store = Store(tmp_path / "results", create=True)
    sweep = Sweep("s", {"data.task": "digits"}, seeds=range(3))
    rounds = Rounds([Replay(sweep, store)], store, Budget(trials=1))
    (first,) = rounds.missing
    store.write("trials", [ended(first.trial_id)])
    assert not any(due.trials for due in rounds.next())


def test_an_error_of_the_results_ends_the_launch_after_the_packs_at_work():
    class Unreadable(World):
        def more(self):
            raise StoreError("can't be read back")

    queue = PackQueue([Pack(TRIALS, 8)], {"results": "r"}, Unreadable())
    assert queue.suggest("one")["pack"] and queue.suggest("two") is None
    queue.on_trial_complete("one", {"settled": 8, "failed": 0, "node_id": ""})
    assert queue.suggest("three") == Searcher.FINISHED == queue.suggest("four")
    assert str(queue.error) == "can't be read back"


# Patience.


def last_words_of(code, tmp_path, seconds=0.5):
    """Of a process that runs this code as a worker runs a pack."""
    place = tmp_path / "memsweep" / "launch"
    place.mkdir(parents=True)
    (place / "execution.py").write_text(textwrap.dedent(code))
    start = f"""
        import runpy
        from memsweep.run.recovery.hang_guard import HangGuard
        from pathlib import Path
        guard = HangGuard(Path({str(tmp_path)!r}), "mine", {seconds}, compiles=False)
        with guard.time_limit():
            runpy.run_path({str(place / "execution.py")!r})
        guard.close()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(start)], capture_output=True, timeout=60)
    words = last_words(tmp_path, "mine")
    assert last_words(tmp_path, "mine") == LastWords(False, "")  # read once
    return ended.returncode, words


def test_what_hangs_is_ended_and_says_where(tmp_path):
    code, words = last_words_of("def stuck():\n    while True:\n        pass\nstuck()\n", tmp_path)
    assert code == 1 and words.has_hung and "in stuck" in words.text and words.summary() == "it hung"


def test_what_hangs_with_the_interpreters_lock_is_ended_too(tmp_path):
    code, words = last_words_of("import re\nre.match('(a+)+$', 'a' * 64 + 'b')\n", tmp_path)
    assert code == 1 and words.has_hung and "execution.py" in words.text


def test_what_crashes_says_where(tmp_path):
    code, words = last_words_of("import ctypes\ndef mine():\n    ctypes.string_at(0)\nmine()\n", tmp_path)
    assert code < 0 and not words.has_hung
    assert words.text.startswith("Fatal Python error: Segmentation fault") and "in mine" in words.text
    assert words.summary() == "it crashed"


def test_what_is_killed_says_nothing(tmp_path):
    _, words = last_words_of("import os\nos.kill(os.getpid(), 9)\n", tmp_path)
    assert words == LastWords(False, "") and "was killed" in words.summary()


def test_what_ends_in_time_leaves_nothing(tmp_path):
    code, words = last_words_of("import time\ntime.sleep(0.1)\n", tmp_path)
    assert code == 0 and words.text == "" and not list((tmp_path / "checkpoints").glob("*"))


def test_patience_lasts_for_a_compilation(tmp_path):
    for compiles, expected in ((False, 5.0), (True, COMPILING_SECONDS)):
        guard = HangGuard(tmp_path, "mine", 5.0, compiles=compiles)
        guard.close()
        assert guard.seconds == expected
    faulthandler.enable()  # as pytest has it
