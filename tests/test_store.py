"""Parts are whole or absent, and readers see the columns that they ask for."""

import errno
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memsweep.results.storage import parts, reading
from memsweep.results.storage import store as stores
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.schema import SCHEMAS
from tests.cases import NOON, ended, step


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def files(store):
    return sorted(path.name for path in store.results.rglob("*") if path.is_file())


# Writing.


def test_what_is_written_is_read(store):
    row = ended(seed=3, regularization_dropout=0.5, data_task="digits", finished_at=NOON)
    store.write("trials", [row])
    (read,) = store.read("trials").to_pylist()
    assert read == dict.fromkeys(SCHEMAS["trials"].names) | row


def test_the_same_rows_make_the_same_file(store):
    first = store.write("steps", [step(number=1), step(number=2)])
    assert store.write("steps", [step(number=1), step(number=2)]) == first
    assert store.write("steps", [step(number=2), step(number=1)]) != first
    assert len(store.parts("steps")) == 2


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_part_that_could_not_be_finished_is_absent(store, monkeypatch, failing):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(StoreError, match="The disk is full"):
        store.write("trials", [ended()])
    assert files(store) == [] and store.parts("trials") == []
    monkeypatch.undo()
    store.write("trials", [ended()])
    assert len(store.trials()) == 1


def test_a_writer_that_is_killed_midway_leaves_nothing_to_see(store):
    code = f"""
        import os
        from memsweep.results.storage.store import Store
        os.replace = lambda *_: os._exit(9)
        Store({str(store.results)!r}).write("trials", [{{"trial_id": "t"}}])
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 9
    assert store.parts("trials") == [] and len(store.read("trials")) == 0
    assert len(files(store)) == 1  # a temporary file, which the next launch sweeps up when it is old


def test_leftovers_are_swept_up_when_they_are_old(store):
    store.write("trials", [ended()])
    old, young = (store.results / "trials" / name for name in (".old-1.tmp", ".young-2.tmp"))
    for path in (old, young):
        path.write_bytes(b"half a part")
    os.utime(old, (0, 0))
    Store(store.results, create=True)
    assert young.exists() and not old.exists() and len(store.parts("trials")) == 1


def test_an_unknown_column_is_refused(store):
    with pytest.raises(StoreError, match=r"steps has no column loss, stpe; memsweep/spec/schema/"):
        store.write("steps", [step(), {"stpe": 1, "loss": 0.5}])
    assert files(store) == []


@pytest.mark.parametrize(
    "row",
    [
        step(number=2.5),
        step(number=float("nan")),
        step(number=float("inf")),
        step(number=2**63),
        step(number=10**30),
        step(number="2"),
        step(number=True),
        step(number=[1]),
        step(trial_id=5),
        step(train_loss_sum_nats="0.5"),
    ],
    ids=repr,
)
def test_a_value_that_is_not_of_its_column_is_refused(store, row):
    with pytest.raises(StoreError, match="table steps"):
        store.write("steps", [step(), row])
    assert files(store) == []


@pytest.mark.parametrize("number", [2, 2.0, np.int64(2), np.float64(2)])
def test_whole_numbers_may_be_spelled_as_floats(store, number):
    store.write("steps", [step(number=number)])
    assert store.read("steps")["step"].to_pylist() == [2]


def test_text_that_is_no_unicode_is_kept_or_refused(store):
    """An error's text may hold what a file's name held; no such text may end the writer with a stray error."""
    try:
        store.write("trials", [ended(status="failed", cause="can't open '\udcff'")])
    except StoreError:
        assert files(store) == []
    else:
        assert "can't open" in store.trials(["cause"])["cause"][0].as_py()


def test_columns_that_are_absent_are_null(store):
    store.write("steps", [step(train_count=5), step(number=2)])
    assert store.read("steps", ["train_count"])["train_count"].to_pylist() == [5, None]


# Reading.


def test_an_empty_folder_has_empty_tables_with_all_columns(store):
    for name, schema in SCHEMAS.items():
        assert store.current(name).schema.equals(schema) and len(store.current(name)) == 0


def test_parts_with_fewer_columns_are_read_with_nulls(store):
    store.write("steps", [step(train_count=5)])
    older = pa.table({"trial_id": ["t"], "attempt_id": ["a"], "step": pa.array([2], pa.int32())})
    pq.write_table(older, store.results / "steps" / "older.parquet")
    table = store.read("steps")
    assert table.schema.equals(SCHEMAS["steps"])
    assert sorted(table.select(["step", "train_count"]).to_pylist(), key=str) == [
        {"step": 1, "train_count": 5},
        {"step": 2, "train_count": None},
    ]


def test_columns_of_a_newer_version_are_passed_over(store):
    store.write("steps", [step()])
    newer = pa.table({"trial_id": ["t"], "attempt_id": ["a"], "step": [2], "curvature": [0.5]})
    pq.write_table(newer, store.results / "steps" / "newer.parquet")
    assert store.read("steps")["step"].to_pylist() in ([1, 2], [2, 1])


def test_numbers_are_never_rounded_into_a_column(store):
    store.write("steps", [step()])
    pq.write_table(pa.table({"trial_id": ["t"], "step": [2.5]}), store.results / "steps" / "other.parquet")
    with pytest.raises(StoreError, match=r"other\.parquet"):
        store.read("steps")


def test_only_the_columns_asked_for_are_read(store):
    store.write("trials", [ended()])
    assert store.current("trials", ["status", "trial_id"]).column_names == ["status", "trial_id"]
    assert store.current("steps", ["epoch"]).column_names == ["epoch"]


def test_many_parts_are_read_in_threads_with_the_same_rows(store, monkeypatch):
    paths = [store.write("steps", [step(number=number)]) for number in range(40)]
    in_turn, threads = store.read("steps"), set()
    monkeypatch.setattr(reading, "PATHS_A_THREAD", 10)
    monkeypatch.setattr(reading, "PATHS_AT_ONCE", 7)
    monkeypatch.setattr(reading.processors, "allotted", lambda: 3)
    read = stores.read_part
    monkeypatch.setattr(stores, "read_part", lambda *part: threads.add(threading.get_ident()) or read(*part))
    assert store.read("steps").equals(in_turn)
    assert len(threads) > 1 and threading.get_ident() not in threads
    paths[7].write_bytes(b"not a part")
    with pytest.raises(StoreError, match=f"{paths[7].name} is not a complete Parquet part"):
        store.read("steps")


def test_a_large_part_is_read_with_the_same_rows(store, monkeypatch):
    store.write("steps", [step(number=number) for number in range(40)])
    in_turn = store.read("steps")
    monkeypatch.setattr(parts, "LARGE", 40)
    assert store.read("steps").equals(in_turn) and len(in_turn) == 40


def test_own_hyperparameters_keep_their_types(store):
    values = {"own_power": 1, "own_rate": 0.5, "own_name": "a", "own_is_tied": True, "own_absent": None}
    store.write("trials", [ended(**values)])
    rows = store.read("trials")
    assert {name: rows[name].to_pylist() for name in values} == {name: [value] for name, value in values.items()}
    assert [str(rows.schema.field(name).type) for name in values] == ["int64", "double", "string", "bool", "null"]


def test_small_parts_hold_no_meanings_of_columns(store):
    assert pq.read_schema(store.write("trials", [ended()])).metadata is None


def test_a_folder_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="launch a sweep first, or choose another folder with --results"):
        Store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


# Folders that can't be written.


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "results").write_text("not a folder")
    for results in (tmp_path / "results", tmp_path / "results" / "below"):
        with pytest.raises(StoreError, match=r"can't be written .* choose another folder with --results"):
            Store(results, create=True)
        with pytest.raises(StoreError, match="no results at"):
            Store(results)
    assert (tmp_path / "results").read_text() == "not a folder"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_folders_impossible_name_is_told(tmp_path, name):
    for create in (True, False):
        with pytest.raises(StoreError):
            Store(tmp_path / name, create=create)


def test_a_file_in_a_tables_place_is_told(store):
    (store.results / "steps").write_text("not a folder")
    with pytest.raises(StoreError, match="can't be written"):
        store.write("steps", [step()])


def test_a_folder_in_the_locks_place_is_told(store):
    (store.results / "launch.lock").mkdir()
    with pytest.raises(StoreError, match=r"launch\.lock"), store.lock():
        pass


def test_a_new_folder_is_made_with_its_parents_and_left_clean(tmp_path):
    store = Store(tmp_path / "a" / "b", create=True)
    assert files(store) == []


def test_nothing_is_written_twice_over(store, monkeypatch):
    """A part that is there is not touched again, so that its readers are never disturbed."""
    store.write("steps", [step()])
    monkeypatch.setattr(stores, "write_whole", lambda *_: pytest.fail("written again"))
    store.write("steps", [step()])
