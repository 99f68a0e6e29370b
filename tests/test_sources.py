"""Data that changes: between launches, during one, from call to call, between machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memsweep.data import tasks
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, plan
from memsweep.run.packing import Pack
from memsweep.run.worker import sources
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import error_line
from memsweep.spec.sweep import SweepError
from tests.commands import own_folder, process, refused, run  # noqa: F401  fixtures

NAME = "tasks_of_test_sources"
MODULE = """
import random
import time
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("table.csv")
CALLS = []

def rows(config, rng):
    table = np.loadtxt(TABLE, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)

def drawn(config, rng): return rng.normal(size=(90, 2)), rng.integers(3, size=90)
def fixed(config, rng): return np.random.default_rng(5).normal(size=(90, 2)), np.arange(90) % 3
def of_numpys_state(config, rng): return np.random.normal(size=(90, 2)), np.arange(90) % 3
def of_labels(config, rng): return rng.normal(size=(90, 2)), np.random.permutation(90) % 3
def of_pythons_state(config, rng): return np.full((90, 2), random.random()), np.arange(90) % 3
def of_time(config, rng): return np.full((90, 2), time.perf_counter_ns() % 2**23 / 2**23), np.arange(90) % 3
def of_calls(config, rng): return np.full((90, 2), CALLS.append(1) or len(CALLS)), np.arange(90) % 3
def of_hashes(config, rng): return np.full((90, 2), hash("a text") % 2**24 / 2**24), np.arange(90) % 3
def pixels(config, rng): return np.arange(180, dtype=np.uint8).reshape(90, 2) * 3, np.arange(90) % 3 + 1
def of_late_seeds(config, rng):
    source = np.random if config.seed == 2 else rng
    return source.normal(size=(90, 2)), np.arange(90) % 3
"""


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{NAME}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    tasks.forget()
    path = tmp_path / "table.csv"
    path.write_text("".join(f"{row / 60},{row % 7},{row % 3}\n" for row in range(60)))
    return path


def of(name: str, **fields: object) -> TrialConfig:
    small = {"data.examples": 40, "data.validation_examples": 20, "model.width": 4, "optimizer.epochs": 2}
    others = {name.replace("__", "."): value for name, value in fields.items()}
    return TrialConfig.of({"data.task": f"{NAME}:{name}", **small, **others})


def change(table: Path) -> None:
    first, *others = table.read_text().splitlines(keepends=True)
    table.write_text("".join([first.replace("0.0", "0.5"), *others]))
    tasks.forget()  # as a launch does, which is another process


def train(store: Store, *trials: TrialConfig, **how: object) -> None:
    for _ in run_pack(replace(Pack(trials, 2), **how), store):  # type: ignore[arg-type]
        pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", create=True)


# Between launches.


def test_data_that_changed_stops_a_launch_and_is_named(store: Store, table: Path) -> None:
    old = [of("rows", seed=seed) for seed in range(2)]
    more = [*old, of("rows", seed=2), of("rows", seed=0, model__width=5)]
    train(store, *old)
    assert sources.changed(more, store) == []
    change(table)
    [sentence] = sources.changed(more, store)
    parts = [f"data.task = '{NAME}:rows'", f"{NAME}.py", "which reads", str(table), *(trial.trial_id for trial in old)]
    assert [part for part in parts if part not in sentence] == []
    assert "from the data of 2 stored trials" in sentence
    assert "--results" in sentence
    assert sources.changed(more[3:], store) == [
        sentence.replace("2 stored", "1 stored").replace(f", {old[1].trial_id}", "")
    ]
    assert sources.changed(more[2:3], store) == []  # nothing stored has its data
    table.write_text(table.read_text().replace("0.5,0,0", "0.0,0,0", 1))
    tasks.forget()
    assert sources.changed(more, store) == []


def test_labels_noise_and_other_splits_are_compared_by_themselves(store: Store, table: Path) -> None:
    noisy = {"data__noise_kind": "labels", "data__noise_fraction": 0.5}
    trials = [of("rows", seed=seed, **fields) for seed in range(3) for fields in ({}, noisy)]
    trials += [of("rows", data__label_scheme="random", data__classes=4), of("drawn"), TrialConfig()]
    train(store, *trials[:8])
    change(table)
    [sentence] = sources.changed(trials, store)
    assert "of 7 stored trials" in sentence


def test_one_stored_trial_with_other_data_than_its_siblings_is_found(store: Store, table: Path) -> None:
    train(store, of("rows"))
    change(table)
    new = [of("rows", model__width=width) for width in (5, 6)]
    train(store, *new)  # as older versions did
    [sentence] = sources.changed([of("rows"), *new, of("rows", model__width=7)], store)
    assert f"of 1 stored trials ({of('rows').trial_id})" in sentence


def test_many_splits_are_compared_in_part(store: Store, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_SPLITS", 3)
    trials = [of("rows", seed=seed) for seed in range(8)]
    train(store, *trials)
    calls: list[TrialConfig] = []
    load = tasks.load
    monkeypatch.setattr(tasks, "load", lambda trial: calls.append(trial) or load(trial))
    assert sources.changed(trials, store) == []
    assert len(calls) == 3
    change(table)
    [sentence] = sources.changed(trials, store)
    assert "at least 3 stored trials" in sentence


def test_tasks_that_cannot_change_are_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = TrialConfig.of({"optimizer.epochs": 1})
    train(store, trial)
    monkeypatch.setattr(tasks, "load", lambda trial: pytest.fail("read"))
    assert sources.changed([trial], store) == []
    assert sources.of([trial]) == ()


def test_data_that_is_gone_does_not_keep_what_is_done_from_being_seen(store: Store, table: Path) -> None:
    train(store, of("rows"))
    table.unlink()
    tasks.forget()
    assert sources.changed([of("rows")], store) == []
    with pytest.raises(SweepError, match="FileNotFoundError"):
        plan.check([of("rows", seed=1)])


def test_a_text_that_changed_is_named(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "characters" / "a text.txt"
    text.parent.mkdir()
    text.write_text("to be or not to be, that is the question; " * 20)
    monkeypatch.setenv("MEMSWEEP_DATA", str(tmp_path))
    fields = {"data.task": "characters", "data.sequence_length": 8, "model.family": "recurrent", "model.cell": "rnn"}
    small = {"data.examples": 10, "data.validation_examples": 5, "model.width": 4, "optimizer.epochs": 1}
    trial = TrialConfig.of({**fields, **small, "model.depth": 1})
    train(store, trial)
    text.write_text("to be or not to be, that was the question; " * 20)
    tasks.forget()
    [sentence] = sources.changed([trial], store)
    assert sentence.startswith(f"data.task = 'characters' ({text}): its data differs from the data of 1 stored trials")
    assert "import path" not in sentence


def test_a_process_that_goes_on_reads_data_anew(table: Path) -> None:
    before = tasks.load(of("rows")).fingerprint
    change(table)
    assert tasks.load(of("rows")).fingerprint != before


def test_a_trial_does_not_go_on_with_other_data_from_its_checkpoint(store: Store, tmp_path: Path, table: Path) -> None:
    trial = of("rows", optimizer__epochs=60, optimizer__batch_size=4)
    started = run_pack(Pack((trial,), 1), store, checkpoint_seconds=0.0)
    for _ in range(3):
        next(started)
    started.close()
    assert 0 < checkpoints.steps(store)[trial.trial_id] < trial.budget
    table.write_text(table.read_text().replace(",0\n", ",9\n"))  # other labels, as many
    tasks.forget()
    train(store, trial)
    fresh = Store(tmp_path / "fresh", create=True)
    train(fresh, trial)
    rows = [one.trial_rows({trial.trial_id})[trial.trial_id] for one in (store, fresh)]
    assert rows[0]["weights_fingerprint"] == rows[1]["weights_fingerprint"]
    [_, pack] = sorted(store.current("packs").to_pylist(), key=lambda row: row["finished_at"])
    assert "data that their task no longer returns" in pack["cause"]


SWEEP = """
from memsweep import Sweep
FIELDS = {{"data.examples": 40, "data.validation_examples": 20, "model.width": 4, "optimizer.epochs": 2}}
SWEEP = Sweep("mine", base={{"data.task": "{name}:{task}", **FIELDS}}, seeds=range({seeds}))
"""


def sweep_file(task: str, seeds: int) -> Path:
    path = Path("mine.py")
    path.write_text(SWEEP.format(name=NAME, task=task, seeds=seeds))
    return path


def test_a_launch_is_refused_before_anything_is_written(store: Store, table: Path, refused: Any, run: Any) -> None:
    old = [of("rows", seed=seed) for seed in range(2)]
    train(store, *old)
    change(table)
    before = sorted(Path("results").rglob("*.parquet"))
    message = refused("launch", sweep_file("rows", seeds=3), "--tracking-uri", "none")
    assert message.count("\n") == 0
    assert [part for part in (str(table), old[0].trial_id, old[1].trial_id, "--results") if part not in message] == []
    assert refused("launch", sweep_file("rows", seeds=2), "--tracking-uri", "none") == message  # with nothing to run
    assert sorted(Path("results").rglob("*.parquet")) == before
    code, out, err = run("plan", sweep_file("rows", seeds=3), "--format", "jsonl")
    assert code == 0
    assert message in err
    assert json.loads(out)["missing"] == 1


def test_a_task_that_ignores_its_generator_is_refused_by_launch_and_plan(refused: Any) -> None:
    for verb in ("launch", "plan"):
        message = refused(verb, sweep_file("of_numpys_state", seeds=2))
        assert f"data.task = '{NAME}:of_numpys_state': two calls" in message


def test_a_launch_says_what_is_unusual_and_its_data_reaches_the_workers(
    process: Any, run: Any, tmp_path: Path, importable: Path, ray_address: str
) -> None:
    (importable / f"{NAME}.py").symlink_to(tmp_path / f"{NAME}.py")
    both = ("mine.py", "--set", f"data.task={NAME}:pixels,{NAME}:of_hashes", "--tracking-uri", "none")
    sweep_file("pixels", seeds=1)
    code, _, err = run("plan", *both[:3])
    assert code == 0
    assert "inputs lie between 0 and 255 and are not scaled" in err
    path = os.pathsep.join([str(importable), *filter(None, sys.path)])
    done = process("launch", *both, "--address", ray_address, PYTHONPATH=path)
    assert done.returncode == 1, done.stderr
    assert "return inputs / 255." in done.stderr
    assert "labels 1, 2, 3 are classes 0 to 2" in done.stderr
    rows = {row["data_task"].partition(":")[2]: row for row in Store("results").trials().to_pylist()}
    pixels, of_hashes = rows["pixels"], rows["of_hashes"]
    assert [pixels[name] for name in ("status", "class_count", "class_labels")] == ["finished", 3, "1,2,3"]
    assert of_hashes["status"] == "failed"
    assert "differs from the data when the launch began" in error_line(of_hashes["cause"])


# During a launch.


def test_trials_whose_data_is_not_the_launchs_fail_alone(store: Store, table: Path) -> None:
    trials = [of("rows", seed=0), of("fixed", seed=0), of("rows", seed=1)]
    began = sources.of(trials)
    assert len(began) == 3
    change(table)
    train(store, *trials, sources=began)
    rows = store.trial_rows({trial.trial_id for trial in trials})
    assert [rows[trial.trial_id]["status"] for trial in trials] == ["failed", "finished", "failed"]
    assert "differs from the data when the launch began" in rows[trials[0].trial_id]["cause"]
    train(store, *trials[:1], sources=sources.of(trials))  # as --retry does
    assert store.trial_rows({trials[0].trial_id})[trials[0].trial_id]["status"] == "finished"


def test_packs_carry_the_launchs_data_to_workers() -> None:
    trials = (of("rows"), of("drawn", seed=3), TrialConfig())
    pack = Pack(trials, 3, sources=sources.of(trials))
    assert Pack.from_json(pack.to_json()).sources == pack.sources
    assert len(pack.sources) == 2
    assert checkpoints.execution(pack, "cpu") == checkpoints.execution(Pack(trials, 3), "cpu")
    sources.check(Pack.from_json(pack.to_json()).trials, pack)  # splits have the same names there


# From call to call.


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("of_numpys_state", "inputs"),
        ("of_labels", "labels"),
        ("of_pythons_state", "inputs"),
        ("of_time", "inputs"),
        ("of_calls", "inputs"),
        ("of_late_seeds", "inputs"),
    ],
)
def test_tasks_that_give_other_data_at_each_call_are_refused(name: str, parts: str) -> None:
    with pytest.raises(SweepError, match="Draw all random numbers from the argument rng") as raised:
        plan.check([TrialConfig(), *(of(name, seed=seed) for seed in range(3))])
    assert f"data.task = '{NAME}:{name}': two calls with the same config and rng return different {parts}" in str(
        raised.value
    )
    assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize("name", ["rows", "drawn", "fixed"])
def test_other_tasks_are_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    task: Callable[..., object] = getattr(__import__(NAME), name)
    monkeypatch.setattr(sys.modules[NAME], name, lambda config, rng: calls.append(name) or task(config, rng))
    plan.check([of(name, seed=seed, model__width=width) for seed in range(6) for width in (4, 5)])
    assert len(calls) == 6 + 2


def test_files_that_are_code_or_not_read_are_not_named(table: Path) -> None:
    assert tasks.origin(of("rows")) == f"{table.parent / NAME}.py, which reads {table}"
    assert tasks.origin(of("drawn")) == f"{table.parent / NAME}.py"
    table.unlink()
    assert tasks.origin(of("rows")) == f"{table.parent / NAME}.py"
