"""Launches for real, on Ray: each trial once, what is new alone, several sweeps, probes asked for later."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import memsweep
from memsweep.results.storage.store import Store

TINY = ["smoke", "--set", "optimizer.epochs=60", "--set", "seeds=0:8", "--members", "4"]  # 32 trials, 8 packs
ALIKE = [*TINY, "--compile", "never"]  # else whether two launches both compile depends on what the disk has
TINIER = ["smoke", "--set", "optimizer.epochs=10", *TINY[3:]]
# times, places and versions may differ, and which members were run again, alone
ELSEWHERE = {"attempt_id", "wall_seconds", "finished_at", "host", "deviation"}
ROOT = Path(__file__).parents[1]


def command(*arguments):
    return [sys.executable, "-m", "memsweep", *map(str, arguments)]


def memsweep_(*arguments, timeout=240, **options):
    """Runs the command to its end; its exit code, output and messages."""
    options |= {"cwd": ROOT, "capture_output": True, "text": True, "timeout": timeout, "stdin": subprocess.DEVNULL}
    return subprocess.run(command(*arguments), **options)


def rows(results, table, without=frozenset()):
    frame = memsweep.table(table, results).drop(columns=list(ELSEWHERE | without), errors="ignore")
    keys = [name for name in ("trial_id", "step", "example") if name in frame]
    return frame.sort_values(keys).reset_index(drop=True)


@pytest.fixture(scope="module")
def launched(tmp_path_factory, ray_address):
    results = tmp_path_factory.mktemp("launched")
    ended = memsweep_("launch", *TINIER, "--results", results, "--address", ray_address)
    assert ended.returncode == 0, ended.stderr
    return results


def test_a_device_that_is_none_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(memsweep.ConfigError, match="device = 'gpu': must be cpu or cuda"):
        memsweep.launch("smoke", tmp_path, device="gpu")
    assert not list(tmp_path.rglob("*.parquet"))


def test_each_trial_is_there_once_and_nothing_is_run_twice(launched):
    assert len(rows(launched, "trials")) == 32
    assert Store(launched).read("trials").num_rows == 32
    assert set(rows(launched, "trials")["status"]) == {"finished"}
    assert (rows(launched, "steps").groupby("trial_id").size() == 10).all()
    again = memsweep_("launch", *TINIER, "--results", launched)
    assert again.returncode == 0
    assert "0 of them run now" in again.stderr
    assert Store(launched).read("trials").num_rows == 32


def test_an_added_value_runs_only_what_is_new(launched, ray_address):
    wider = [*TINIER, "--set", "data.noise_fraction=0,0.25,0.5"]
    listed = memsweep_("missing", *wider, "--results", launched, "--format", "jsonl")
    left = [json.loads(line) for line in listed.stdout.splitlines()]
    assert len(left) == 16 and {row["data.noise_fraction"] for row in left} == {0.25}
    ended = memsweep_("launch", *wider, "--results", launched, "--address", ray_address)
    assert ended.returncode == 0 and "16 of them run now" in ended.stderr
    assert Store(launched).read("trials").num_rows == 48


def test_several_sweeps_run_in_one_launch_and_a_trial_of_several_once(tmp_path, ray_address):
    smoke, paths, results = (ROOT / "sweeps" / "smoke.py").read_text(), [], tmp_path / "results"
    for name, fractions, probes in (("near", "(0.0, 0.5)", "()"), ("far", "(0.5, 1.0)", '("examples",)')):
        own = smoke.replace('"smoke"', f'"{name}"').replace("base={", f'base={{"probes": {probes},')
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(own.replace("(0.0, 0.5)", fractions))
    ended = memsweep_("launch", *paths, "--results", results, "--address", ray_address)
    assert ended.returncode == 0, ended.stderr
    assert "near, far: 18 of 18 trials finished, 18 of them run now" in ended.stderr
    assert Store(results).read("trials").num_rows == 18
    wanted = memsweep.table("wanted", results)
    assert wanted.groupby("sweep")["trial_id"].nunique().to_dict() == {"near": 12, "far": 12}
    probed = "select distinct data_noise_fraction f from trials join examples using (trial_id) order by f"
    assert memsweep.sql(probed, results)["f"].tolist() == [0.5, 1.0]
    for path in paths:
        again = memsweep_("launch", path, "--results", results)
        assert "12 of 12 trials finished, 0 of them run now" in again.stderr
    twice = memsweep_("launch", paths[0], paths[0], "--results", results)
    assert twice.returncode == 2 and "near, near: the sweeps of one launch must have different names" in twice.stderr


def test_probes_asked_for_later_are_recorded_and_numbers_stay(tmp_path, ray_address):
    few = ["smoke", "--limit", "2", "--results", tmp_path, "--address", ray_address]
    assert memsweep_("launch", *few).returncode == 0
    before = rows(tmp_path, "trials", {"probes", "pack_id"})
    assert memsweep_("launch", *few, "--set", "probes=examples").returncode == 0
    assert before.equals(rows(tmp_path, "trials", {"probes", "pack_id"}))
    examples = memsweep.table("examples", tmp_path)
    assert len(examples) == 2 * 200
    trials = memsweep.table("trials", tmp_path).set_index("trial_id")
    learned = examples.groupby("trial_id")["final_loss_nats"].sum()
    assert ((learned - trials["train_loss_sum_nats"]).abs() < 1e-3).all()


def test_a_users_own_broken_network_fails_with_its_cause_and_the_rest_is_stored(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\nclass Broken(torch.nn.Linear):\n    def __init__(self, model, d, k):\n"
        "        super().__init__(d, k)\n    def forward(self, x):\n        raise RuntimeError('my own mistake')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    mixed = ["smoke", "--set", "model.family=mlp,own:Broken", "--set", "seeds=0", "--results", tmp_path / "results"]
    ended = memsweep_("launch", *mixed, env=environment)
    assert ended.returncode == 1, ended.stderr
    told = memsweep_("status", "--results", tmp_path / "results", "--format", "jsonl")
    counts = json.loads(told.stdout)
    assert (counts["finished"], counts["failed"]) == (4, 4)
    assert "my own mistake" in told.stderr
    cause = memsweep.sql("select cause from trials where status = 'failed'", tmp_path / "results").iloc[0, 0]
    alone = memsweep_(*cause.splitlines()[-1].partition("memsweep ")[2].split(), env=environment)
    assert alone.returncode == 1 and "RuntimeError: my own mistake" in alone.stderr


def test_compiled_packs_go_on_compiled(tmp_path, ray_address):
    own = ("--set", "model.width=24")  # a program that no other test finds on the disk
    few = ["smoke", "--limit", "4", *own, "--set", "optimizer.epochs=20", "--results", tmp_path]
    few += ["--address", ray_address]
    always = memsweep_("launch", *few, "--set", "seeds=0", "--compile", "always")
    assert always.returncode == 0, always.stderr
    wider = memsweep_("launch", *few, "--set", "seeds=0,1")
    assert wider.returncode == 0, wider.stderr
    packs = memsweep.table("packs", tmp_path)
    assert len(packs) > 1 and packs["compiled"].all()
    assert (packs["compile_seconds"] > 0).any()
