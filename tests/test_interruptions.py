"""Launches for real that are cut short: resumed after kills, equal to the undisturbed, no process left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

import memsweep
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints
from memsweep.spec.seeds import key
from tests.test_launch import ALIKE, ROOT, command, memsweep_, rows

pytestmark = pytest.mark.alone

STARTED = []
"""Commands that a test began and may have left, if it failed."""


def start(*arguments, **options):
    driver = subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )
    STARTED.append(driver)
    return driver


@pytest.fixture(autouse=True)
def nothing_goes_on():
    yield
    while STARTED:
        with STARTED.pop() as driver:
            driver.kill()


def status_of(results):
    """The row of the only sweep."""
    return json.loads(memsweep_("status", "--results", results, "--format", "jsonl").stdout)


def wait_for_parts(results, count, process, seconds=120):
    until = time.monotonic() + seconds
    while len(list(Path(results, "trials").glob("*.parquet"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "no part was written in time"
        time.sleep(0.05)


def assert_same_numbers(results, reference):
    """Every trial of `results` is in the reference with the same columns and curves; what is left is packed anew."""
    for table in ("trials", "steps"):
        mine, theirs = rows(results, table, {"pack_id"}), rows(reference, table, {"pack_id"})
        theirs = theirs[theirs["trial_id"].isin(set(mine["trial_id"]))].reset_index(drop=True)
        assert mine.equals(theirs), mine.compare(theirs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, ray_address):
    results = tmp_path_factory.mktemp("undisturbed")
    ended = memsweep_("launch", *ALIKE, "--results", results, "--address", ray_address)
    assert ended.returncode == 0, ended.stderr
    return results


def test_packs_are_accounted_for(undisturbed):
    packs = memsweep.table("packs", undisturbed)
    assert packs["settled_count"].sum() == 32
    assert packs["member_step_count"].sum() == 32 * 60 * 4
    parts = packs[["start_seconds", "train_seconds", "evaluate_seconds", "write_seconds"]].sum(axis=1)
    assert (parts > 0.5 * packs["wall_seconds"]).all() and (parts <= packs["wall_seconds"]).all()


def test_killed_drivers_lose_nothing_and_leave_no_process(undisturbed, tmp_path, ray_address):
    for parts in (0, 1, 4):
        driver = start("launch", *ALIKE, "--results", tmp_path)
        if parts:
            wait_for_parts(tmp_path, parts, driver)
        else:
            time.sleep(3)  # while Ray starts
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.communicate()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    ended = memsweep_("launch", *ALIKE, "--results", tmp_path, "--address", ray_address)
    assert ended.returncode == 0, ended.stderr
    whole = memsweep.sql(
        "select count(*) n, count(distinct trial_id) d from trials where status = 'finished'", tmp_path
    )
    assert whole.iloc[0].tolist() == [32, 32]
    assert_same_numbers(tmp_path, undisturbed)


def test_ctrl_c_keeps_what_is_finished_and_says_so(tmp_path):
    # 800 trials, far from their end when the signal comes, in packs of several seconds; workers see it after one
    more = [text.replace("seeds=0:8", "seeds=0:200") for text in ALIKE]
    long = [*more, "--set", "stop.steps=12000", "--set", "stop.measure_steps=1000"]
    driver = start("launch", *long, "--checkpoint", "0.2s", "--results", tmp_path)
    wait_for_parts(tmp_path, 1, driver)
    refused = memsweep_("launch", *long, "--results", tmp_path)
    assert refused.returncode == 2
    assert "is writing to" in refused.stderr and str(driver.pid) in refused.stderr
    until = time.monotonic() + 60
    while not status_of(tmp_path)["running"]:  # none are between two packs
        assert time.monotonic() < until, "nothing is running"
    while not any(max(saved.steps.values()) < 4000 for saved in checkpoints.stored(Store(tmp_path))):
        assert time.monotonic() < until, "no pack was caught far from its end"
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    _, message = driver.communicate(timeout=120)
    assert driver.returncode == 130, message
    assert "Traceback" not in message
    counts = status_of(tmp_path)
    assert counts["finished"] > 0 and counts["running"] == 0
    assert counts["finished"] + counts["missing"] == 800
    assert f"{counts['finished']} of 800 trials finished, {counts['finished']} of them run now" in message
    saved = checkpoints.steps(Store(tmp_path))
    assert saved and all(step > 0 for step in saved.values())
    finished = memsweep.sql("select trial_id from trials where status = 'finished'", tmp_path)
    assert not set(saved) & set(finished["trial_id"])


LONG = {"seeds": "0:2", "data.noise_fraction": "0.5", "stop.steps": "400000", "stop.measure_steps": "1000"}


def as_in_a_script(*arguments):
    """A launch of 4 trials in the background of a shell without a terminal, which ignores Ctrl-C there."""
    axes = [argument for name, value in LONG.items() for argument in ("--set", f"{name}={value}")]
    return start("launch", "smoke", *axes, *arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))


def test_a_signal_to_all_processes_of_a_job_saves_what_is_in_training(tmp_path):
    driver = as_in_a_script("--compile", "never", "--checkpoint", "3s", "--results", tmp_path)
    until, store = time.monotonic() + 120, Store(tmp_path, create=True)
    while len(checkpoints.steps(store)) < 4:
        assert driver.poll() is None and time.monotonic() < until, "not all packs are in training"
        time.sleep(0.1)
    family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        for process in family:
            process.send_signal(number)
        time.sleep(0.2)
    _, message = driver.communicate(timeout=120)
    assert driver.returncode == 130 and "Traceback" not in message, message
    saved = checkpoints.steps(store)
    assert len(saved) == 4 and f"with {sum(saved.values()):,} of all 1,600,000 steps" in message
    assert memsweep.table("packs", tmp_path)["member_step_count"].sum() == sum(saved.values())  # none was lost
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_signal_while_ray_starts_ends_the_launch_in_order(tmp_path):
    driver = as_in_a_script("--results", tmp_path)
    until = time.monotonic() + 60
    while not any("gcs_server" in _title(process) for process in psutil.Process(driver.pid).children()):
        assert driver.poll() is None and time.monotonic() < until
    driver.send_signal(signal.SIGTERM)
    _, message = driver.communicate(timeout=60)
    assert driver.returncode == 130 and "Traceback" not in message, message
    assert "interrupted" in message and not Store(tmp_path).is_locked()


def test_a_killed_worker_is_replaced_and_its_pack_repeated(undisturbed, tmp_path):
    driver = start("launch", *ALIKE, "--results", tmp_path)
    wait_for_parts(tmp_path, 1, driver)
    workers_of(driver)[0].kill()
    _, message = driver.communicate(timeout=180)
    assert driver.returncode == 0, message
    assert len(rows(tmp_path, "trials")) == 32
    assert_same_numbers(tmp_path, undisturbed)


def workers_of(driver):
    """Processes that have trained a pack; a new one has its title a moment later."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if "Trainable" in _title(process)]


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_a_killed_worker_goes_on_from_its_checkpoint(tmp_path):
    long = {"seeds": "0:4", "data.noise_fraction": "0.5", "stop.steps": "4000", "stop.measure_steps": "250"}
    axes = [argument for name, value in long.items() for argument in ("--set", f"{name}={value}")]
    driver = start("launch", "smoke", *axes, "--checkpoint", "0.2s", "--results", tmp_path)
    store, until = Store(tmp_path), time.monotonic() + 120
    while not (saved := checkpoints.stored(store)) or max(saved[0].steps.values()) < 1000:
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < until, "no checkpoint was written in time"
        time.sleep(0.05)
    saved_steps, workers = sum(checkpoints.steps(store).values()), workers_of(driver)
    for worker in workers:
        worker.kill()
    _, message = driver.communicate(timeout=180)
    assert driver.returncode == 0, message
    packs = memsweep.table("packs", tmp_path)  # a killed attempt has no row: what is there was trained after the kill
    assert len(workers) == 2 and 0 < packs["member_step_count"].sum() <= 8 * 4000 - saved_steps
    assert (rows(tmp_path, "steps").groupby("trial_id").size() == 16).all()
    assert not list((tmp_path / "checkpoints").glob("*"))


FRAGILE = """
import ctypes, torch
class Crashing(torch.nn.Linear):
    def __init__(self, model, inputs, classes):
        super().__init__(inputs, classes)
        if torch.rand(()) < 0.5:
            self.end()
    def end(self):
        ctypes.string_at(0)
class Hanging(Crashing):
    def end(self):
        while True:
            pass
"""


def fails_when_made(seed):
    """Whether a network of FRAGILE does, with this seed."""
    with torch.random.fork_rng():
        torch.manual_seed(key(seed, "init"))
        torch.nn.Linear(64, 10)
        return bool(torch.rand(()) < 0.5)


def test_users_code_that_crashes_or_hangs_is_quarantined_and_the_rest_is_stored(tmp_path):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    bad, good = (next(s for s in range(99) if fails_when_made(s) is guilty) for guilty in (True, False))
    two = ["--set", f"seeds={good},{bad}", "--set", "data.noise_fraction=0", "--set", "regularization.weight_decay=0"]
    families = ["--set", "model.family=fragile:Crashing,fragile:Hanging", "--patience", "10s", "--members", "2"]
    results = tmp_path / "results"
    ended = memsweep_("launch", "smoke", *two, *families, "--results", results, env=environment)
    assert ended.returncode == 1, ended.stderr
    trials = memsweep.table("trials", results).set_index(["model_family", "seed"])
    assert trials["status"].to_dict() == {
        ("fragile:Crashing", good): "finished",
        ("fragile:Crashing", bad): "quarantined",
        ("fragile:Hanging", good): "finished",
        ("fragile:Hanging", bad): "quarantined",
    }
    crash, hang = (trials.loc[(f"fragile:{name}", bad)] for name in ("Crashing", "Hanging"))
    assert "Segmentation fault" in crash["cause"] and "it was the only trial left: it crashed" in crash["cause"]
    assert "in end" in hang["cause"] and "it was the only trial left: it hung" in hang["cause"]
    status = memsweep_("status", "--results", results)
    assert "it was the only trial left: it hung" in status.stderr
    verify = crash["cause"].splitlines()[-1].partition("memsweep ")[2].split()
    again = memsweep_(*verify, env=environment)
    assert again.returncode == -signal.SIGSEGV and "in end" in again.stderr
    assert not list((results / "checkpoints").glob("*"))
