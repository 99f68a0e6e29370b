"""Searches for real, on Ray: one that was killed goes on to the same trials; paused members go on exactly."""

import json
import os
import signal
import subprocess
import time

import pytest

import memsweep
from memsweep.results.storage.store import Store
from memsweep.run.rounds.replay import Replay
from memsweep.spec.sweep_files import load_sweep
from tests.test_launch import ROOT, command, memsweep_, rows

pytestmark = pytest.mark.launches

CAPACITY = """
from memsweep import CapacitySearch, Sweep

SWEEP = Sweep(
    "tiny_capacity",
    {
        "data.task": "gaussian", "data.input_dim": 8, "data.label_scheme": "random", "data.classes": 2,
        "data.validation_examples": 0, "model.depth": 1, "optimizer.batch_size": 16, "optimizer.momentum": 0.9,
        "stop.fit": 1.0, "stop.steps": 300, "stop.measure_steps": 20,
    },
    axes={"model.width": (2, 4), "data.examples": (8, 12, 18, 27, 40, 60, 90), "optimizer.learning_rate": (0.1, 0.5)},
    seeds=range(4),
    search=CapacitySearch(),
)
"""
HALVING = """
from memsweep import BestSearch, Range, Sweep

SWEEP = Sweep(
    "tiny_best",
    {
        "data.task": "my_lab:rings", "model.family": "my_lab:Net",
        "data.examples": 60, "data.validation_examples": 40,
        "optimizer.batch_size": 20, "optimizer.epochs": 18,
    },
    seeds=range(2),
    search=BestSearch(
        {"optimizer.learning_rate": Range(0.01, 1, log=True), "regularization.weight_decay": (0.0, 0.01)},
        configurations=8, at_a_time=6, halving=3,
    ),
)
"""
MY_LAB = """
import numpy as np
import torch


class Net(torch.nn.Module):
    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(input_dim, model.width), torch.nn.Linear(model.width, classes)

    def forward(self, inputs):
        return self.out(torch.tanh(self.hidden(inputs)))


def rings(config, rng):
    radius, angle = rng.uniform(0, 3, 500), rng.uniform(0, 2 * np.pi, 500)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), radius.astype(int)
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweeps") / "tiny_capacity.py"
    path.write_text(CAPACITY)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, sweep, ray_address):
    results = tmp_path_factory.mktemp("undisturbed")
    ended = memsweep_("launch", sweep, "--results", results, "--address", ray_address)
    assert ended.returncode == 0, ended.stderr
    assert "tiny_capacity: Largest data.examples fitted in 50% of the seeds: model.width=2: " in ended.stderr
    return results


def test_rounds_are_in_the_tables_and_status_tells_what_was_found(undisturbed, sweep):
    wanted = memsweep.table("wanted", undisturbed).sort_values("position")
    assert set(wanted["search"]) == {"capacity"} and wanted["round"].is_monotonic_increasing
    assert list(wanted["position"]) == list(range(len(wanted)))
    assert set(wanted["round"]) == {1, 2, 3} and len(wanted) < len(load_sweep(str(sweep)).trials) / 2
    assert set(wanted["trial_id"]) == set(memsweep.table("trials", undisturbed)["trial_id"])
    told = memsweep_("status", "--results", undisturbed)
    assert "tiny_capacity: Largest" in told.stderr
    again = memsweep_("launch", sweep, "--results", undisturbed)
    assert again.returncode == 0 and ", 0 of them run now" in again.stderr
    header, *missing = memsweep_("missing", sweep, "--results", undisturbed, "--format", "csv").stdout.splitlines()
    assert header.startswith('"trial_id"') and missing == []


def test_a_killed_search_goes_on_to_the_same_trials(undisturbed, sweep, tmp_path, ray_address):
    driver = subprocess.Popen(command("launch", sweep, "--results", tmp_path), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 240
    while round_at(tmp_path) < 2:
        assert driver.poll() is None and time.monotonic() < until, driver.stderr.read()
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    ended = memsweep_("launch", sweep, "--results", tmp_path, "--address", ray_address)
    assert ended.returncode == 0, ended.stderr
    for table in ("trials", "steps"):
        mine, theirs = (rows(place, table, {"pack_id"}) for place in (tmp_path, undisturbed))
        assert mine.equals(theirs)
    key = ["trial_id", "round", "position"]
    mine, theirs = (memsweep.table("wanted", place).sort_values(key)[key] for place in (tmp_path, undisturbed))
    assert mine.reset_index(drop=True).equals(theirs.reset_index(drop=True))


def round_at(results):
    said = Store(results).searches().get("tiny_capacity", "") if (results / "wanted").is_dir() else ""
    return int(said.split()[1].rstrip(":")) if said.startswith("round") else 0


def test_a_budget_of_trials_ends_a_search_cleanly_and_the_next_launch_goes_on(
    undisturbed, sweep, tmp_path, ray_address
):
    launch = ("launch", sweep, "--results", tmp_path, "--address", ray_address)
    part = memsweep_(*launch, "--budget", "20trials")
    assert part.returncode == 0, part.stderr
    assert len(memsweep.table("trials", tmp_path)) == 20
    assert "tiny_capacity: round 2" in part.stderr
    rest = memsweep_(*launch)
    assert rest.returncode == 0, rest.stderr
    assert rows(tmp_path, "trials", {"pack_id"}).equals(rows(undisturbed, "trials", {"pack_id"}))


def test_halving_pauses_gives_up_and_goes_on_with_the_numbers_of_one_never_paused(tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    path = tmp_path / "tiny_best.py"
    path.write_text(HALVING)
    own = {"env": {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}}
    ended = memsweep_("launch", path, "--results", tmp_path / "results", **own)
    assert ended.returncode == 0, ended.stderr
    assert "tiny_best: Best of" in ended.stderr
    trials = memsweep.table("trials", tmp_path / "results")
    assert set(trials["status"]) == {"pruned", "finished"} and len(trials) == 16
    pruned = trials[trials["status"] == "pruned"]
    assert pruned["validation_correct_count"].notna().all()
    steps = memsweep.table("steps", tmp_path / "results").groupby("trial_id")["step"].max()
    assert set(steps[pruned["trial_id"]]) <= {6, 18} and set(steps.drop(pruned["trial_id"])) == {54}
    assert not list((tmp_path / "results" / "checkpoints").glob("*.safetensors"))
    exact = memsweep_(
        "verify", "--own-code", "--sample", "9", "--results", tmp_path / "results", "--format", "jsonl", **own
    )
    verdicts = [json.loads(line) for line in exact.stdout.splitlines()]
    assert exact.returncode == 0 and verdicts, exact.stderr
    monkeypatch.syspath_prepend(tmp_path)
    again = Replay(load_sweep(str(path)), Store(tmp_path / "results"))
    assert again.round is None and {trial.trial_id for trial in again.trials} == set(trials["trial_id"])
