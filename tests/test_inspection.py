"""What `doctor` says of a folder that a crash, a full disk or a careless copy left behind, and what becomes of it."""

import json
import os
import re
import shutil
import subprocess

import pytest

import memsweep
from memsweep.check import inspection
from memsweep.check.doctor import checks
from memsweep.check.inspection import inspect
from memsweep.results.storage.store import Store
from memsweep.spec.sweep_files import load_sweep


@pytest.fixture(scope="module")
def launched(tmp_path_factory, ray_address):
    """The results of a real launch."""
    folder = tmp_path_factory.mktemp("launched") / "results"
    memsweep.launch("smoke", folder, limit=4, address=ray_address)
    return folder


@pytest.fixture
def store(launched, tmp_path):
    """A copy of them, to be ill-treated."""
    shutil.copytree(launched, tmp_path / "my results")
    return Store(tmp_path / "my results")


def found(store):
    return {finding.kind: finding for finding in inspect(store)}


def part(store, table="trials"):
    return store.parts(table)[0]


def test_what_a_launch_leaves_is_in_order(store):
    assert list(inspect(store)) == []


def test_a_copied_part_is_harmless(store):
    shutil.copy(part(store), store.results / "trials" / "part (1).parquet")
    (finding,) = inspect(store)
    assert finding.kind == "copies" and not finding.is_wrong and "delete" in finding.message
    assert len(store.trials()) == 4


def test_a_renamed_part_is_told_its_name(store):
    name = part(store).name
    part(store).rename(store.results / "trials" / "mine.parquet")
    finding = found(store)["part"]
    assert finding.is_wrong and name in finding.message


def test_a_part_that_was_cut_off_is_wrong_and_launching_again_mends_it(store, ray_address):
    content = part(store).read_bytes()
    part(store).write_bytes(content[:100])
    finding = found(store)["part"]
    assert finding.is_wrong and "Move it out of the folder" in finding.message
    part(store).rename(store.results / "damaged.parquet")  # as it says
    assert memsweep.launch("smoke", store.results, limit=4, address=ray_address).unfinished == 0
    assert list(inspect(store)) == []


def test_half_written_files_are_harmless(store):
    (store.results / "trials" / ".abc-17.tmp").write_bytes(b"PAR1")
    (store.results / ".running-17.tmp").write_bytes(b"[")
    (store.results / "checkpoints").mkdir(exist_ok=True)
    (store.results / "checkpoints" / ".abc-17.tmp").write_bytes(b"x")
    findings = [finding for finding in inspect(store) if finding.kind == "half written"]
    assert len(findings) == 2 and not any(finding.is_wrong for finding in findings)
    assert all("launch deletes" in finding.message for finding in findings) and "2 files" in findings[0].message
    for path in store.results.rglob(".*.tmp"):
        os.utime(path, (0, 0))
    memsweep.launch("smoke", store.results, limit=4)  # all of them have ended: Ray is not started
    assert not list(store.results.rglob(".*.tmp"))


def test_other_files_among_parts_are_told(store):
    (store.results / "steps" / "notes.txt").write_text("look here again")
    finding = found(store)["other files"]
    assert not finding.is_wrong and "notes.txt" in finding.message and "ignored" in finding.message


def test_results_copied_into_results_are_told_with_what_to_do(store, launched):
    """cp -r results elsewhere, where elsewhere was there already."""
    shutil.copytree(launched, store.results / "results")
    finding = found(store)["folder in folder"]
    (advice,) = re.findall(r"cp -rn .*(?=, then)", finding.message)
    (store.results / "identity").write_text("0123\n")
    (store.results / "results" / "identity").write_text("4567\n")
    assert finding.is_wrong
    subprocess.run(["sh", "-c", advice], check=True)
    shutil.rmtree(store.results / "results")
    assert list(inspect(store)) == [] and len(store.trials()) == 4 and store.identity() == "0123"


@pytest.mark.parametrize(
    "name, content, what, words",
    [
        ("a.safetensors", b"\x08", "checkpoint", "the next launch deletes it"),
        ("a.txt", b"Fatal Python error", "last words", "the next launch deletes"),
    ],
)
def test_what_workers_left_goes_with_the_next_launch(store, name, content, what, words):
    path = store.results / "checkpoints" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    finding = found(store)[what]
    assert not finding.is_wrong and words in finding.message
    memsweep.launch("smoke", store.results, limit=4)  # all of them have ended: Ray is not started
    assert not path.exists() and list(inspect(store)) == []


@pytest.mark.parametrize(
    "name, is_wrong", [("programs.json", True), ("identity", True), ("running.json", False), ("searches.json", False)]
)
def test_notes_that_a_full_disk_emptied(store, name, is_wrong):
    (store.results / name).write_bytes(b"")
    finding = found(store)["note"]
    assert finding.is_wrong == is_wrong and name in finding.message


def test_a_copy_without_all_tables_is_told(store):
    shutil.rmtree(store.results / "steps")
    finding = found(store)["rows"]
    assert finding.is_wrong and "missing in 4 places" in finding.message
    states = {row["check"]: row["state"] for row in checks(str(store.results))}
    assert states["rows"] == "wrong" and "results" not in states


def test_a_configuration_of_another_version_is_told(store):
    (row,) = [row for row in store.read("wanted").to_pylist() if row["position"] == 0]
    for path in store.parts("wanted"):
        path.unlink()
    store.write("wanted", [{**row, "configuration": json.dumps({"model.wings": 2})}])
    finding = found(store)["rows"]
    assert finding.is_wrong and "'model.wings' is no field" in finding.message and "newer" in finding.message


def test_trials_that_no_sweep_wants_are_counted(store):
    shutil.rmtree(store.results / "wanted")
    finding = found(store)["rows"]
    assert not finding.is_wrong and finding.message.startswith("4 stored trials are wanted by no sweep")
    report = memsweep.launch("smoke", store.results, limit=4)
    assert report.ran == 0 and list(inspect(store)) == []


def test_a_checkpoint_of_trials_that_have_ended_is_of_no_use(store):
    """A killed launch's, whose trials another folder's parts brought meanwhile."""
    ids = store.trials(["trial_id"])["trial_id"].to_pylist()
    own = {"members": ids[:1], "steps": [3], "trials": ids, "slots": 1, "execution": {}}
    header = {"__metadata__": {"memsweep": json.dumps(own)}, "x": {"data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    (store.results / "checkpoints").mkdir(exist_ok=True)
    path = store.results / "checkpoints" / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert "all its trials have ended" in found(store)["checkpoint"].message


def test_what_others_made_unwritable_is_named_with_the_remedy(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", create=True)
    store.write("trials", [{"trial_id": "a", "attempt_id": "a", "status": "finished"}])
    with store.lock():
        pass
    closed = {store.results / "launch.lock", store.results / "trials"}
    monkeypatch.setattr(inspection.os, "access", lambda path, mode: path not in closed)
    finding = found(store)["permissions"]
    assert finding.is_wrong and all(str(path) in finding.message for path in closed)
    assert f"chmod -R g+w {store.results}" in finding.message and "umask 002" in finding.message
    monkeypatch.setattr(inspection.os, "access", lambda path, mode: False)
    assert "read only" in found(store) and "permissions" not in found(store)
    monkeypatch.setattr(inspection.os, "access", lambda path, mode: True)
    assert not found(store).keys() & {"permissions", "read only"}


def test_steps_beyond_the_budget_have_no_end_of_their_own():
    """Of rows that an editor or a tool has written."""
    trial = load_sweep("smoke").trials[0]
    within = list(inspection._measured_steps(trial, trial.budget))
    assert list(inspection._measured_steps(trial, 10 * trial.budget)) == within and within[-1] == trial.budget
