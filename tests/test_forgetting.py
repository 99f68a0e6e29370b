"""Sweeps that are forgotten, renamed, noted and exported: what goes, what stays, and what nothing changes."""

import os
import re
import subprocess
import sys
from contextlib import suppress

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import memsweep
from memsweep import Sweep
from memsweep.analysis.report import report
from memsweep.check.inspection import damaged
from memsweep.results import forgetting, notes
from memsweep.results.compaction import compact
from memsweep.results.mlflow.sync import Tracking
from memsweep.results.status import overview
from memsweep.results.storage.store import LockedError, Store, StoreError
from memsweep.run.rounds.definition import write_wanted
from memsweep.spec.schema import SCHEMAS
from tests.cases import ended
from tests.commands import own_folder, run, snapshot
from tests.mlflow_store import all_runs, blank, client, empty, end, fill, uri_of
from tests.pages import ROOT

PAGE = ROOT / "docs/how-to/results.md"
ONE = Sweep("one", base={"optimizer.epochs": 2}, axes={"model.width": (8, 16)}, seeds=range(2))
TWO = Sweep("two", base={"optimizer.epochs": 2}, axes={"model.width": (16, 32)}, seeds=range(2))
SHARED = {trial.trial_id for trial in ONE.trials} & {trial.trial_id for trial in TWO.trials}
LONELY = {trial.trial_id for trial in ONE.trials} - SHARED


@pytest.fixture
def both(empty):
    """Two sweeps that share half of their trials, all finished; a pack of each."""
    trials = {trial.trial_id: trial for sweep in (ONE, TWO) for trial in sweep.trials}
    for sweep in (ONE, TWO):
        write_wanted(sweep, sweep.trials, empty)
    for pack, ids in (("lonely", LONELY), ("others", trials.keys() - LONELY)):
        end(empty, [trials[id_] for id_ in sorted(ids)], attempt=pack)
        empty.write("packs", [{"attempt_id": pack}])
    return empty


def ids(store, table="trials"):
    return set(store.current(table, ["trial_id"])["trial_id"].to_pylist())


def test_a_forgotten_sweep_goes_at_the_next_compaction_and_shared_trials_stay(both):
    before = {name: both.current(name) for name in ("trials", "steps")}
    result = forgetting.forget(both, "one")
    assert result.deleted == LONELY and result.kept == len(SHARED) == 2
    assert [row["sweep"] for row in overview(both)] == ["two"]
    assert ids(both) == {*LONELY, *ids(both, "wanted")}, "nothing is deleted yet"
    compact(both)
    assert ids(both) == ids(both, "steps") == {trial.trial_id for trial in TWO.trials}
    assert both.current("packs")["attempt_id"].to_pylist() == ["others"]
    assert set(both.read_ever("wanted")["sweep"].to_pylist()) == {"two"}
    for name, rows in before.items():
        kept = [row for row in rows.to_pylist() if row["trial_id"] not in LONELY]
        assert sorted(map(repr, kept)) == sorted(map(repr, both.current(name).to_pylist()))
    assert damaged(both) == [] and overview(both)[0]["finished"] == 4


def test_a_launch_before_the_compaction_takes_the_trials_up_again(both):
    forgetting.forget(both, "one")
    write_wanted(ONE, ONE.trials, both)
    compact(both)
    assert [row["finished"] for row in overview(both)] == [4, 4] and ids(both) >= LONELY


def test_trials_that_another_sweep_wanted_earlier_stay(both):
    later = Sweep("two", base={"optimizer.epochs": 2}, axes={"model.width": (32,)}, seeds=range(2))
    write_wanted(later, later.trials, both)
    forgetting.forget(both, "one")
    compact(both)
    assert ids(both) >= SHARED and not LONELY & ids(both)


def writing(write_part, left):
    """As `write_part`, until nothing is left."""

    def write(*part):
        if next(left, None) is None:
            raise StoreError("the disk is full")
        return write_part(*part)

    return write


def test_an_interrupted_compaction_is_completed_by_the_next(both, monkeypatch):
    forgetting.forget(both, "one")
    write_part = Store.write_part
    for stop in range(6):
        monkeypatch.setattr(Store, "write_part", writing(write_part, iter(range(stop))))
        with suppress(StoreError):
            compact(both, 1)
        assert {trial.trial_id for trial in TWO.trials} <= ids(both)
    monkeypatch.undo()
    compact(both)
    assert ids(both) == {trial.trial_id for trial in TWO.trials}


def test_while_a_launch_runs_nothing_is_forgotten_and_nothing_is_deleted(both):
    code = f"from memsweep.results.storage.store import Store\nwith Store({str(both.results)!r}).lock():\n    "
    with subprocess.Popen(
        [sys.executable, "-c", code + "print(flush=True)\n    input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as launch:
        launch.stdout.readline()
        with pytest.raises(LockedError, match="memsweep launch"):
            forgetting.forget(both, "one")
        with pytest.raises(LockedError, match="memsweep launch"):
            forgetting.rename(both, "one", "three")
        forgetting._bury(both, "one")
        compact(both)
        assert ids(both) >= LONELY
        launch.communicate("\n")
    compact(both)
    assert not LONELY & ids(both)


def test_folders_that_are_merged_forget_together(both, tmp_path):
    """A copy that was made before is put back beside the parts, as `cp -rn` does."""
    copy = snapshot(both.results)
    forgetting.forget(both, "one")
    compact(both)
    for name, content in copy.items():
        if "/wanted/" in name or "/trials/" in name or "/steps/" in name:
            with open(name, "wb") as file:
                file.write(content)
    assert [row["sweep"] for row in overview(both)] == ["two"]
    compact(both)
    assert not LONELY & ids(both)


def test_a_renamed_sweep_keeps_everything(both):
    notes.write(both, "one", "the first", tags=["paper"])
    both.note_search("one", "round 2 of 3")
    before = overview(both)
    for name, other in (("one", "three"), ("three", "one"), ("one", "three")):
        forgetting.rename(both, name, other)
    rows = {row["sweep"]: row for row in overview(both)}
    assert set(rows) == {"three", "two"} and rows["three"] == {**before[0], "sweep": "three"}
    remarks = notes.of_sweeps(both)
    assert set(remarks) == {"three"} and remarks["three"].tags == ("paper",)
    assert [text for _, text in remarks["three"].notes] == ["the first"]
    assert both.searches() == {"three": "round 2 of 3"}
    compact(both)
    assert ids(both) >= LONELY and overview(both) == sorted(rows.values(), key=lambda row: row["sweep"])
    renamed = Sweep("three", base={"optimizer.epochs": 2}, axes={"model.width": (8, 16)}, seeds=range(2))
    rows_before = len(both.read("wanted"))
    write_wanted(renamed, renamed.trials, both)
    assert len(both.read("wanted")) == rows_before, "a launch of the new name continues the renamed one"


def test_a_rename_that_was_interrupted_is_completed_by_the_same_call(both, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_bury", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            forgetting.rename(both, "one", "three")
    forgetting.rename(both, "one", "three")
    assert [(row["sweep"], row["finished"]) for row in overview(both)] == [("three", 4), ("two", 4)]


def test_a_renamed_sweep_of_an_older_version(empty):
    """Its rows name no launch."""
    empty.write("wanted", [{"sweep": "old", "trial_id": "t", "position": 0}])
    empty.write("trials", [ended("t")])
    forgetting.rename(empty, "old", "new")
    forgetting.rename(empty, "new", "old")
    assert [(row["sweep"], row["finished"]) for row in overview(empty)] == [("old", 1)]


def test_notes_and_tags(both):
    notes.write(both, "one", "first", tags=["paper", "final"])
    notes.write(both, "one", "second", untags=["final"])
    remarks = notes.of_sweeps(both)["one"]
    assert [text for _, text in remarks.notes] == ["first", "second"] and remarks.tags == ("paper",)
    page = report.write(both.results).read_text()
    assert "first</p>" in page and "Tags: paper" in page
    forgetting.forget(both, "one")
    write_wanted(ONE, ONE.trials, both)
    assert notes.of_sweeps(both) == {}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("note", "none", "x"), "no sweep 'none' in results; there: one, two."),
        (("note", "one", "  "), "the note is empty"),
        (("note", "one", "--tag", "two words"), "tag 'two words': must be letters"),
        (("rename", "none", "x"), "no sweep 'none'"),
        (("rename", "one", "two"), "a sweep 'two' is in results already"),
        (("rename", "one", "one"), "a sweep 'one' is in results already"),
        (("rename", "one", "../x"), "name '../x': must be letters"),
        (("forget", "none", "--yes"), "no sweep 'none'"),
        (("forget", "one"), "Forget one? Without a terminal, add --yes."),
        (("export", "none", "--out", "a.csv"), "no sweep 'none'"),
        (("export", "one", "--out", "a.xlsx"), "a.xlsx: the name must end in .parquet or .csv."),
        (("export", "one", "--out", "there.csv"), "there.csv exists. Replace it? Without a terminal, add --yes."),
        (("export", "one", "--out", "a.csv", "--table", "trails"), "there is no table 'trails'"),
        (("export", "one", "--out", "none/a.csv"), "none/a.csv: can't be written (No such file or directory)."),
    ],
)
def test_what_is_refused_changes_nothing(both, run, arguments, message):
    with open("there.csv", "w"):
        pass
    before = snapshot()
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and message in err.replace(str(both.results), "results"), err
    assert {name: text for name, text in snapshot().items() if not name.endswith(".lock")} == {
        name: text for name, text in before.items() if not name.endswith(".lock")
    }


def test_the_verbs(both, run):
    assert run("note", "one", "hello", "--tag", "paper")[0] == 0
    assert run("note", "one")[1].endswith("UTC: hello\ntags: paper\n")
    assert run("note", "two")[1] == "\n"
    code, _, err = run("forget", "one", "--dry-run")
    assert code == 0 and "one: 2 stored trials are deleted by the next memsweep compact; 2 stay" in err
    assert run("rename", "one", "three")[0] == 0 and run("forget", "three", "--yes")[0] == 0
    assert run("compact")[0] == 0 and not LONELY & ids(both)
    assert run("note", "three")[0] == 2


def test_a_folder_that_can_only_be_read(both, run, monkeypatch):
    def refuse(self, table, rows):
        raise StoreError(f"{self.results}: can't be written (Read-only file system).")

    monkeypatch.setattr(Store, "write_part", refuse)
    for arguments in (("note", "one", "x"), ("rename", "one", "three"), ("forget", "one", "--yes")):
        code, _, err = run(*arguments)
        assert code == 2 and "Read-only file system" in err
    assert [row["sweep"] for row in overview(both)] == ["one", "two"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_export_has_each_trial_once_for_programs_without_memsweep(both, run, suffix):
    both.write("trials", [ended(trial_id, "failed", "b") for trial_id in LONELY])  # attempts that lost
    assert run("export", "one", "--out", f"one.{suffix}")[0] == 0
    rows = duckdb.sql(f"select trial_id, model_width, status from 'one.{suffix}'").fetchall()
    assert sorted(rows) == sorted((t.trial_id, t.model.width, "finished") for t in ONE.trials)
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    frame = read(f"one.{suffix}")
    assert list(frame) == SCHEMAS["trials"].names and frame["validation_correct_count"].tolist() == [60] * 4
    assert run("export", "one", "--out", f"steps.{suffix}", "--table", "steps")[0] == 0
    steps = read(f"steps.{suffix}")
    assert len(steps) == 8 and set(steps["model_width"]) == {8, 16} and set(steps["status"]) == {"finished"}
    assert set(steps["seed"]) == {0, 1}


def test_lists_are_exported_to_parquet_alone(both, run):
    both.write("representations", [{"trial_id": min(LONELY), "attempt_id": "lonely", "step": 1, "part": "train"}])
    assert run("export", "one", "--out", "a.parquet", "--table", "representations")[0] == 0
    assert pq.read_metadata("a.parquet").num_rows == 1
    code, _, err = run("export", "one", "--out", "a.csv", "--table", "representations")
    assert code == 2 and "holds lists, which CSV can't" in err and not os.path.exists("a.csv")


def test_mlflow_follows(both):
    notes.write(both, "one", "look here", tags=["paper"])
    fill(both)
    there = client(both)
    experiment = there.get_experiment_by_name("one")
    assert experiment.tags["mlflow.note.content"] == "look here" and experiment.tags["tags"] == "paper"
    assert len(all_runs(there, "one")) == len(all_runs(there, "two")) == 5
    forgetting.rename(both, "one", "three")
    fill(both)
    assert len(all_runs(there, "three")) == 5 and len(all_runs(there, "two")) == 5
    assert there.get_experiment_by_name("one").lifecycle_stage == "deleted"
    forgetting.forget(both, "three")
    tracking = Tracking(both, uri_of(both))
    assert set(tracking.fill()) == {"two"} and tracking.deleted == 5
    assert there.get_experiment_by_name("three").lifecycle_stage == "deleted"
    write_wanted(ONE, ONE.trials, both)
    assert set(fill(both).fill()) == {"one", "two"} and len(all_runs(there, "one")) == 5


def test_python_reads_what_is_left(both):
    forgetting.forget(both, "one")
    assert set(memsweep.table("wanted", both.results)["sweep"]) == {"two"}
    assert memsweep.sql("select count(*) as n from forgotten", both.results)["n"].tolist() == [1]


def test_the_counting_rule_as_sql(both, monkeypatch):
    """The page's SQL reads the attempts that readers see."""
    (statement,) = re.findall(r"```sql\n(select \* from read_parquet.*?)```", PAGE.read_text(), re.DOTALL)
    trials = sorted(both.current("trials", ["trial_id"])["trial_id"].to_pylist())
    ends = ("finished", "diverged", "failed", "interrupted", "pruned")
    chance = np.random.default_rng(0)
    for number in range(60):
        probes = chance.choice(["", "examples", "examples,positions"])
        records = {"probes": probes, "probe_steps": chance.choice(["", "4"]), "metrics": chance.choice([None, "a:b"])}
        trial_id, status, minute = chance.choice(trials), chance.choice(ends), float(chance.integers(9))
        row = ended(str(trial_id), str(status), f"attempt {number}", minute)
        both.write("trials", [{**row, **records}])
    monkeypatch.chdir(both.results.parent)
    columns = "trial_id, attempt_id, status"
    seen = duckdb.sql(f"select {columns} from ({statement}) order by all").fetchall()
    assert seen == sorted(tuple(row.values()) for row in both.trials(columns.split(", ")).to_pylist())
