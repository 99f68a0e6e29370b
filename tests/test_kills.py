"""Kills at random of workers and drivers, and of the parts of a launch, leave the tables of an undisturbed sweep."""

import json
import random
import subprocess
import time

import psutil
import pytest

import memsweep
from memsweep.results.storage import launch_lock
from memsweep.results.storage.location import location
from memsweep.results.storage.store import Store
from memsweep.spec.part import Part
from memsweep.spec.schema import SCHEMAS
from tests.test_interruptions import nothing_goes_on, start, workers_of  # noqa: F401
from tests.test_launch import memsweep_

KILLS = 20
SWEEP = [
    "smoke",
    *("--set", "data.noise_fraction=0,0.5", "--set", "regularization.weight_decay=0,0.001", "--set", "seeds=0:60"),
    *("--set", "stop.fit=0.9", "--set", "stop.steps=6000", "--set", "stop.measure_steps=200"),
    *("--set", "regularization.input_noise=1.5", "--set", "optimizer.learning_rate=0.02", "--set", "probes=examples"),
]
LAUNCH = ["launch", *SWEEP, "--members", "16", "--checkpoint", "0.5s", "--tracking-uri", "none"]
PARTS, PART_KILLS = 4, 6
IN_PARTS = [word.replace("seeds=0:60", "seeds=0:12") for word in LAUNCH] + ["--compile", "never"]  # 48 trials
ELSEWHERE = {"attempt_id", "pack_id", "wall_seconds", "finished_at", "host", "memsweep_version", "torch_version"} | {
    "deviation"  # told of the members that were run again, which others are in other packs
}


def numbers(results, table):
    names = [name for name in SCHEMAS[table].names if name not in ELSEWHERE]
    rows = Store(results).current(table, names).to_pandas()
    keys = [name for name in ("trial_id", "step", "example") if name in rows]
    return rows.sort_values(keys).reset_index(drop=True)


def is_seen_once(results):
    """Whether readers see each measurement once, also of trials in training."""
    return not memsweep.table("steps", results).duplicated(["trial_id", "step"]).any()


def ended(driver):
    """Waits for all processes of a killed launch."""
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.communicate()
    psutil.wait_procs(family, timeout=20)


def some_workers(driver):
    """The workers of a launch, waited for while it starts."""
    while not (workers := workers_of(driver)):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.2)
    return workers


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills_change_nothing(tmp_path):
    chance = random.Random(20)
    killed, gone = tmp_path / "killed", {"worker": 0, "driver": 0}
    driver = start(*LAUNCH, "--results", killed)
    while sum(gone.values()) < KILLS:
        time.sleep(chance.uniform(1, 9))
        assert is_seen_once(killed)
        if chance.random() < 0.65:
            chance.choice(some_workers(driver)).kill()
            gone["worker"] += 1
        else:
            ended(driver)
            gone["driver"] += 1
            driver = start(*LAUNCH, "--results", killed)
    _, message = driver.communicate()
    assert driver.returncode == 0, message
    assert min(gone.values()) >= 3, gone

    peaceful = tmp_path / "peaceful"
    undisturbed = memsweep_(*LAUNCH, "--results", peaceful, timeout=1200)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for table in ("trials", "steps", "examples"):
        mine, theirs = numbers(killed, table), numbers(peaceful, table)
        assert len(mine) and mine.equals(theirs), mine.compare(theirs)
    assert Store(killed).read("trials", ["trial_id"]).num_rows == 240  # nobody was settled twice
    assert set(memsweep.table("trials", killed)["status"]) == {"finished"}
    assert 10 < memsweep.table("trials", killed)["fitted_step"].notna().sum() < 230  # some left early, some did not
    assert not list((killed / "checkpoints").glob("*")) and not list((killed / "live").glob("*"))


def in_training(results):
    """The numbers of the parts whose drivers have packs in training."""
    place, numbers = location(results), []
    for part in launch_lock.running_parts(place):
        if json.loads(launch_lock.running_path(place, part).read_text()):
            numbers.append(part.number)
    return numbers


def kill_parts(results, chance, launch=IN_PARTS):
    """Runs four parts at once, and kills drivers at random, whose parts are launched again, until all parts have ended.

    Returns how many of the kills met a part in training.
    """

    def begin(number):
        return start(*launch, "--results", results, "--part", str(Part(number, PARTS)), "--workers", "1")

    drivers, met = {number: begin(number) for number in range(1, PARTS + 1)}, 0
    for kill in range(PART_KILLS):
        while kill % 3 and not in_training(results) and None in map(subprocess.Popen.poll, drivers.values()):
            time.sleep(0.2)  # two of three kills meet a part in training
        time.sleep(chance.uniform(0, 2))
        ends = {number: driver.poll() for number, driver in drivers.items()}
        assert not any(ends.values()), ends
        alive = [number for number, code in ends.items() if code is None]
        assert alive, "all parts have ended before their kills"
        training = [number for number in in_training(results) if number in alive]
        number = chance.choice(training or alive)
        met += number in training
        ended(drivers[number])
        drivers[number] = begin(number)
    for driver in drivers.values():
        _, message = driver.communicate()
        assert driver.returncode == 0, message
    return met


def assert_equal_to_a_whole_launch(results, peaceful):
    """The same numbers, each trial once, and nothing left behind."""
    undisturbed = memsweep_(*IN_PARTS, "--results", peaceful)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for table in ("trials", "steps", "examples"):
        mine, theirs = numbers(results, table), numbers(peaceful, table)
        assert len(mine) and mine.equals(theirs), mine.compare(theirs)
    store = Store(results)
    assert store.read("trials", ["trial_id"]).num_rows == 48  # nobody was settled twice
    assert not list(store.results.glob("checkpoints/*")) and not store.parts("live")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_parts_at_once_that_are_killed_change_nothing(tmp_path):
    assert kill_parts(tmp_path / "killed", random.Random(24)) >= 3
    assert_equal_to_a_whole_launch(tmp_path / "killed", tmp_path / "peaceful")
