"""More recorded of stored trials: by one trial trained again, and by kept networks probed without training."""

import errno
import json
import os

import pytest

from memsweep import Sweep
from memsweep.check import recording
from memsweep.results import status
from memsweep.results.compaction import compact
from memsweep.results.storage.store import LockedError, Store, StoreError
from memsweep.spec.config import ConfigError
from tests.commands import own_folder, run
from tests.training import train

BASE = {"optimizer.epochs": 3, "data.examples": 200, "data.test_examples": 100, "data.validation_examples": 100}
PROBES = ("representations", "permutations")
AXES = {"model.width": (8, 16), "own.x": (1, 2)}


def sweep(probes=(), **settings):
    return Sweep("s", {**BASE, "probes": probes}, axes=AXES, seeds=range(2), **settings)


@pytest.fixture
def store(tmp_path):
    return train(sweep(keep="weights"), Store(tmp_path / "results", create=True))


def rows(store, table):
    """The rows that readers see, without times and places."""
    names = {"attempt_id", "pack_id", "wall_seconds", "finished_at", "deviation", "file", "position"}
    seen = [{k: v for k, v in row.items() if k not in names} for row in store.current(table).to_pylist()]
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in seen)


def test_kept_networks_are_probed_as_the_training_would_have(store, tmp_path):
    assert recording.probe(store, "s", PROBES) == (8, 0)
    fresh = train(sweep(PROBES, keep="weights"), Store(tmp_path / "fresh", create=True))
    for _ in range(2):
        for table in ("trials", "steps", "weights", *PROBES):
            mine, theirs = ([json.loads(row) for row in rows(each, table)] for each in (store, fresh))
            for row in (*mine, *theirs) if table == "trials" else ():
                row["probes"] = sorted(row["probes"].split(","))
            assert mine == theirs and mine, table
        compact(store)
    assert recording.probe(store, "s", PROBES) == (0, 0)


def test_averaged_networks_are_probed_with_their_averages(tmp_path):
    averaged = {**BASE, "optimizer.averaging": 0.9}
    store = train(Sweep("s", averaged, keep="weights"), Store(tmp_path / "results", create=True))
    recording.probe(store, "s", ["representations"])
    probed = Sweep("s", {**averaged, "probes": ("representations",)}, keep="weights")
    fresh = train(probed, Store(tmp_path / "fresh", create=True))
    assert rows(store, "representations") == rows(fresh, "representations")


def test_trials_without_a_kept_network_are_left_out(tmp_path):
    store = train(sweep(), Store(tmp_path / "results", create=True))
    assert recording.probe(store, "s", ["representations"]) == (0, 8)
    assert not store.parts("representations")


def test_a_trial_is_repeated_with_more_recorded(store, tmp_path):
    before = rows(store, "steps")
    one = store.current("trials").to_pylist()[0]
    again = recording.repeat(store, one["trial_id"], ["critical_samples", "weights"], (2, 4))
    assert again.is_exact and str(again).endswith("equal to the bit")
    assert rows(store, "steps") == before
    assert {row["step"] for row in store.current("critical_samples").to_pylist()} == {2, 4, 6}
    kept = [row["step"] for row in store.current("weights").to_pylist() if row["trial_id"] == one["trial_id"]]
    assert sorted(kept) == [2, 4, 6]
    (row,) = [row for row in store.current("trials").to_pylist() if row["trial_id"] == one["trial_id"]]
    assert row["probes"] == "weights,critical_samples" and row["own_x"] == one["own_x"]
    assert [overview["finished"] for overview in status.overview(store)] == [8]


def test_what_cannot_be_recorded_is_refused(store):
    one = store.current("trials").to_pylist()[0]["trial_id"]
    with pytest.raises(StoreError, match="recorded weights already"):
        recording.repeat(store, one, ["weights"])
    with pytest.raises(ConfigError, match="readouts need a recurrent network"):
        recording.repeat(store, one, ["readouts"])
    with pytest.raises(StoreError, match="none: not a finished trial"):
        recording.repeat(store, "none", ["examples"])
    with pytest.raises(StoreError, match=r"'examples': must be one of .*Other probes need the training"):
        recording.probe(store, "s", ["examples"])
    with pytest.raises(StoreError, match="t: no sweep of this name"):
        recording.probe(store, "t", ["representations"])
    with store.lock(), pytest.raises(LockedError):
        recording.repeat(store, one, ["examples"])


def test_the_verbs(store, run):
    one = store.current("trials").to_pylist()[0]["trial_id"]
    code, _, err = run("run", one, "--probe", "examples", "--keep", "state", "--results", store.results)
    assert (code, err.strip()) == (0, f"{one}: trained again, its weights are equal to the bit")
    assert len(store.current("states")) == 1 and len(store.current("examples")) == 200
    code, _, err = run("probe", "s", "representations", "--results", store.results)
    assert (code, err.strip()) == (0, "s: 8 trials probed, 0 without a kept network at their end")
    code, _, err = run("run", one, "--probe", "nothing", "--results", store.results)
    assert code == 2 and "probes" in err
    code, _, err = run("run", one, "--probe", "examples", "--probe-steps", "x", "--results", store.results)
    assert code == 2 and "--probe-steps" in err


def test_a_folder_that_may_only_be_read_stays_as_it_is(store, run, monkeypatch):
    one, files = store.current("trials").to_pylist()[0]["trial_id"], sorted(store.results.rglob("*"))
    system = os.open

    def refuse(path, flags, *rest, **named):
        if flags & (os.O_RDWR | os.O_WRONLY) and str(path).startswith(str(store.results)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return system(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    for words in (("run", one, "--probe", "examples"), ("probe", "s", "representations")):
        code, _, err = run(*words, "--results", store.results)
        assert code == 2 and err.endswith("launch.lock: can't be written (Read-only file system).\n"), err
    assert sorted(store.results.rglob("*")) == files
