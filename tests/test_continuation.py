"""Trials that go on from kept states: equal to the bit to the same trials from their first step."""

import json
from importlib.metadata import version

import pytest

from memsweep import Sweep
from memsweep.results import kept_files
from memsweep.results.storage.store import Store
from memsweep.run import continuation, plan
from memsweep.run.packing import Pack
from memsweep.run.policy import execution_plan
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import TrialConfig
from memsweep.spec.lineage import lineage_of, obstacle
from memsweep.spec.sweep_files import load_sweep
from tests.cases import trial
from tests.commands import own_folder, run

BASE = {"data.examples": 200, "data.test_examples": 100, "data.validation_examples": 100, "optimizer.batch_size": 50}
PLACES = ("attempt_id", "pack_id", "wall_seconds", "finished_at", "host", "deviation", "file", "position")


def sweep(epochs, **settings):
    fields = {**BASE, "optimizer.epochs": epochs, "optimizer.momentum": 0.9, "data.noise_kind": "labels"}
    axes = {"data.noise_fraction": (0.0, 0.5)}
    return Sweep("longer", fields | settings.pop("base", {}), axes=axes, seeds=range(2), keep="state", **settings)


def launch(wanted, store):
    """Runs the trials that are missing, as a launch does; returns member steps that were trained, and remarks."""
    write_wanted(wanted, wanted.trials, store)
    missing = plan.work(wanted.trials, store).missing
    chosen = execution_plan.choose(missing, store, "cpu", 1, compiling=False)
    going_on = continuation.of_packs(plan.packs(missing, 1, 3, chosen), store, "cpu")
    for pack in going_on.packs:
        list(run_pack(pack, store))
    known = {one.pack_id for one in going_on.packs}
    steps = sum(row["member_step_count"] for row in store.read("packs").to_pylist() if row["pack_id"] in known)
    return steps, going_on.remarks


def rows(store, trials, table):
    """The rows of these trials, without times and places, in an order of their own."""
    wanted = {one.trial_id for one in trials}
    kept = [row for row in store.current(table).to_pylist() if row["trial_id"] in wanted]
    return sorted(
        json.dumps({k: v for k, v in row.items() if k not in PLACES}, default=str, sort_keys=True) for row in kept
    )


TABLES = ("trials", "steps", "metrics", "examples", "weights", "critical_samples")


def compare(short, long, tmp_path, *others):
    """Runs both in one folder, then the longer one alone in another; returns steps and remarks of the continuation."""
    store, fresh = (Store(tmp_path / name, create=True) for name in ("both", "fresh"))
    launch(short, store)
    steps, remarks = launch(long, store)
    launch(long, fresh)
    for table in (*TABLES, *others):
        assert rows(store, long.trials, table) == rows(fresh, long.trials, table), table
    return steps, remarks


def test_a_longer_trial_equals_the_trial_from_scratch(tmp_path):
    long = sweep(6)
    steps, remarks = compare(sweep(3), long, tmp_path)
    assert steps == 4 * 3 * 4  # 4 trials, 3 epochs of 4 steps
    assert remarks == ["Trials that go on from kept states: 4; 48 of their 96 steps are saved."]


def test_examples_metrics_and_weights_before_the_end_are_taken_over(tmp_path):
    probes = ("examples", "tests.test_own_probes:spectrum")
    record = {"probes": probes, "metrics": ("tests.test_own_metrics:margin",), "probe_steps": (4, 12)}
    steps, _ = compare(sweep(3, base=record), sweep(5, base=record), tmp_path, "own_spectrum")
    assert {row["step"] for row in Store(tmp_path / "both").current("own_spectrum").to_pylist()} == {4, 12, 20}
    assert steps == 4 * 2 * 4


def test_the_longest_state_is_continued_and_can_be_continued_again(tmp_path):
    store = Store(tmp_path / "results", create=True)
    assert [launch(sweep(epochs), store)[0] for epochs in (1, 3, 4, 2)] == [16, 32, 16, 16]


STATEFUL = ("averaged", "own optimizer of the user's", "schedule", "muon", "dropout", "lstm, copy", "own buffers")


@pytest.mark.parametrize("name", STATEFUL)
def test_programs_with_more_state_than_weights_go_on(name, tmp_path):
    one = trial(name, data__examples=60, data__test_examples=0)
    short, long = (Sweep("longer", one.with_fields({"optimizer.epochs": n}), keep="state") for n in (1, 2))
    steps, _ = compare(short, long, tmp_path)
    assert steps == long.trials[0].budget - short.trials[0].budget


def test_what_depends_on_the_budget_starts_again():
    short, long = (TrialConfig.of({**BASE, "optimizer.epochs": epochs}) for epochs in (3, 6))
    assert lineage_of(short) == lineage_of(long) and obstacle(long, short.budget) == ""
    cosine = long.with_fields({"optimizer.schedule": "cosine"})
    assert obstacle(cosine, 12) == "the schedule cosine depends on the budget"
    assert "longer" in obstacle(short, 24)
    off_grid = long.with_fields({"stop.measure_steps": 5})
    assert obstacle(off_grid, 12) == "they do not measure at step 12, at which the shorter training ended"
    assert lineage_of(long.with_fields({"optimizer.learning_rate": 0.3})) != lineage_of(long)


@pytest.mark.parametrize(
    ("short", "long", "reason"),
    [
        ({"stop.fit": 0.05}, {"stop.fit": 0.05}, ""),
        ({}, {"probes": ("critical_samples",), "probe_steps": (4,)}, "they did not record"),
        ({"optimizer.schedule": "cosine"}, {"optimizer.schedule": "cosine"}, "the schedule cosine depends"),
    ],
)
def test_other_trials_start_again_and_the_launch_says_why(short, long, reason, tmp_path):
    longer = sweep(6, base=long)
    steps, remarks = compare(sweep(3, base=short), longer, tmp_path)
    assert all("from their first step" in remark and reason in remark for remark in remarks)
    assert bool(remarks) == bool(reason)
    assert steps == sum(row["step_count"] for row in Store(tmp_path / "fresh").trials().to_pylist())


def test_other_versions_start_again(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", create=True)
    launch(sweep(3), store)
    monkeypatch.setattr("memsweep.run.checkpoints.version", lambda _: "2.99.0")
    steps, remarks = launch(sweep(4), store)
    assert steps == 4 * 16
    assert remarks[0].endswith("these run with 2.99.0.") and "they ran with torch 2.13.0" in remarks[0]
    monkeypatch.setattr("memsweep.run.checkpoints.version", version)
    monkeypatch.setattr("memsweep.run.worker.provenance.processor", lambda: "abacus, AVX512")
    steps, remarks = launch(sweep(5), store)
    assert steps == 4 * 20 and "these run with abacus, AVX512" in remarks[0]


def test_a_worker_on_another_processor_starts_again(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", create=True)
    launch(sweep(3), store)
    (pack,) = continuation.of_packs([Pack(tuple(sweep(4).trials), 4)], store, "cpu").packs
    assert len(pack.states) == 4
    monkeypatch.setattr("memsweep.run.worker.provenance.processor", lambda: "abacus, AVX512")
    list(run_pack(pack, store))
    (row,) = [row for row in store.read("packs").to_pylist() if row["pack_id"] == pack.pack_id]
    assert row["member_step_count"] == 4 * 16 and "trained in another way" in row["cause"]


def test_a_continuation_that_is_cut_short_goes_on(tmp_path):
    """From the later of its checkpoint and the kept state, with each measurement once."""
    store, fresh = (Store(tmp_path / name, create=True) for name in ("both", "fresh"))
    launch(sweep(3), store)
    long = sweep(60)
    write_wanted(long, long.trials, store)
    chosen = execution_plan.choose(long.trials, store, "cpu", 1, compiling=False)
    (pack,) = continuation.of_packs(plan.packs(long.trials, 1, 4, chosen), store, "cpu").packs
    begun = run_pack(pack, store)
    next(begun), next(begun)
    begun.close()
    assert {row["status"] for row in store.trials().to_pylist() if row["optimizer_epochs"] == 60} == {"interrupted"}
    list(run_pack(pack, store))
    assert sum(row["member_step_count"] for row in store.read("packs").to_pylist()) == 4 * 240  # those of sweep(3) too
    launch(long, fresh)
    for table in TABLES:
        assert rows(store, long.trials, table) == rows(fresh, long.trials, table), table


def test_a_damaged_state_is_reported_and_not_used(tmp_path):
    store = Store(tmp_path / "results", create=True)
    launch(sweep(3), store)
    for name in set(store.current("states")["file"].to_pylist()):
        path = kept_files.path_of(store, "states", name)
        path.write_bytes(path.read_bytes()[:-8])
    assert len(kept_files.damaged(store)) == 2
    assert launch(sweep(4), store)[0] == 4 * 16
    assert all("is not used" in row["cause"] for row in store.read("packs").to_pylist() if row["cause"])
    assert sum(bool(row["cause"]) for row in store.read("packs").to_pylist()) == 2


def test_the_plan_says_what_is_saved(tmp_path, run):
    store = Store(tmp_path / "results", create=True)
    settings = ("smoke", "--keep", "state", "--results", store.results)
    smoke = load_sweep("smoke").keeping("state")
    short = Sweep("smoke", smoke.trials[0], keep="state")
    launch(short, store)
    code, out, err = run("plan", *settings, "--set", "optimizer.epochs=60", "--limit", 1, "--format", "jsonl")
    row = json.loads(out)
    assert code == 0 and row["missing"] == 1
    kept = [row["byte_count"] for row in store.current("states").to_pylist()]
    assert row["states_mib"] * 2**20 == pytest.approx(kept[0], rel=0.2)
    assert "Trials that go on from kept states: 1;" in err
