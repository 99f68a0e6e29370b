"""Several launches of one sweep on one folder: fixed shares of the trials, which exclude other launches."""

import json
import subprocess
from collections import Counter

import pytest

import memsweep
from memsweep.results.storage import launch_lock
from memsweep.results.storage.store import LockedError, Store
from memsweep.run import launcher
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.packing import by_program, share
from memsweep.spec.config import ConfigError
from memsweep.spec.part import Part
from memsweep.spec.sweep import SweepError
from memsweep.spec.sweep_files import load_sweep
from tests.test_launch import ALIKE, ROOT, command, memsweep_, rows

SMOKE = load_sweep("smoke").with_axes({"model.width": range(8, 18)})  # ten programs


@pytest.mark.parametrize("total", [1, 3, 12, 50])
def test_parts_are_contiguous_shares_of_each_program(total):
    trials = list(SMOKE.trials)
    parts = [share(trials, Part(number, total)) for number in range(1, total + 1)]
    assert Counter(trial_id for part in parts for trial_id in part) == Counter(trial.trial_id for trial in trials)
    for group in by_program(trials).values():
        for part in parts:
            positions = [i for i, trial in enumerate(group) if trial.trial_id in part]
            assert positions == list(range(len(positions) and positions[0], len(positions) and positions[-1] + 1))
            assert len(positions) in (len(group) // total, -(-len(group) // total))
    assert max(map(len, parts)) - min(map(len, parts)) <= len(trials) / total  # small programs are spread


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ConfigError, match="must be I/N"):
        Part.of(text)


def array(number, count, first=1, last=None, step=1):
    values = {"ID": number, "COUNT": count, "MIN": first, "MAX": count if last is None else last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_a_job_array_numbers_the_parts():
    assert Part.of("slurm", array(2, 4)) == Part(2, 4)
    with pytest.raises(ConfigError, match="no job of an array"):
        Part.of("slurm", {})
    for broken in (array(0, 4, first=0, last=3), array(1, 4, last=7, step=2), array(3, 1, first=3, last=3)):
        with pytest.raises(ConfigError, match="without gaps"):
            Part.of("slurm", broken)


def test_parts_of_one_division_exclude_other_launches(tmp_path, monkeypatch):
    monkeypatch.setattr(launch_lock, "WAIT_SECONDS", 0.0)
    store = Store(tmp_path, create=True)
    with store.lock(part=Part(1, 4)), store.lock(part=Part(3, 4)):
        store.note_running({"p": ["a"]}, Part(1, 4))
        store.note_running({"q": ["b"]}, Part(3, 4))
        assert store.is_locked() and store.running() == {"a", "b"}
        for other in (None, Part(3, 4), Part(1, 3)):
            with pytest.raises(LockedError, match=r"memsweep launch \(.*process \d+ on "), store.lock(part=other):
                pass
    assert not store.is_locked() and store.running() == set()
    with store.lock(), pytest.raises(LockedError, match="process"), store.lock(part=Part(1, 4)):
        pass
    with store.lock(part=Part(1, 3)):
        assert store.running() == set()


def test_a_search_has_no_parts(tmp_path):
    options = LaunchOptions(part=Part(1, 2), tracking_uri="none")
    with pytest.raises(SweepError, match=r"part 1/2: capacity_search is a search.*without --part"):
        launcher.launch(load_sweep("capacity_search"), Store(tmp_path, create=True), options)


def test_parts_run_at_the_same_time_and_a_whole_launch_finishes_the_rest(tmp_path, ray_address):
    results, whole = tmp_path / "parts", tmp_path / "whole"
    join = ["--address", ray_address, "--workers", "1"]
    launches = [
        subprocess.Popen(
            command("launch", *ALIKE, "--results", results, "--part", f"{number}/3", *join, "--format", "jsonl"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    ended = [json.loads(launch.communicate(timeout=200)[0]) for launch in launches]
    assert [(row["ran"], row["missing"]) for row in ended] == [(row["wanted"], 0) for row in ended]
    assert ended[0]["sweeps"].endswith(", part 1/3") and 16 <= ended[0]["ran"] + ended[1]["ran"] < 32
    status = json.loads(memsweep_("status", "--results", results, "--format", "jsonl").stdout)
    assert (status["wanted"], status["finished"]) == (32, ended[0]["ran"] + ended[1]["ran"])
    assert memsweep.sql("select count(distinct launch_id) from wanted", results).iloc[0, 0] == 1
    for folder in (results, whole):
        assert memsweep_("launch", *ALIKE, "--results", folder, *join).returncode == 0
    counts = memsweep.sql("select sum(settled_count), sum(member_step_count) from packs", results)
    assert counts.iloc[0].tolist() == [32, 32 * 60 * 4]
    mine, theirs = rows(results, "trials", {"pack_id"}), rows(whole, "trials", {"pack_id"})
    assert mine.equals(theirs), mine.compare(theirs)
