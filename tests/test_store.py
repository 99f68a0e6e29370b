"""Parts are whole or absent, readers see one attempt a trial, and one process writes at a time."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.check.inspection import damaged
from memsweep.results.storage import parts
from memsweep.results.storage import store as stores
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store, StoreError
from memsweep.results.trial_state import RETRIED, SETTLED
from memsweep.spec.schema import SCHEMAS, Status
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
    monkeypatch.setattr(stores, "PATHS_A_THREAD", 10)
    monkeypatch.setattr(stores.processors, "allotted", lambda: 3)
    read = stores.read_part
    monkeypatch.setattr(stores, "read_part", lambda *part: threads.add(threading.get_ident()) or read(*part))
    assert store.read("steps").equals(in_turn)
    assert len(threads) > 1 and threading.get_ident() not in threads
    paths[7].write_bytes(b"not a part")
    with pytest.raises(StoreError, match=f"{paths[7].name} is not a complete Parquet part"):
        store.read("steps")


def test_a_folder_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="launch a sweep first, or choose another folder with --results"):
        Store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


# One attempt a trial.

ATTEMPTS = {
    "settled beats failed, even a later one": (ended(status="diverged"), ended(status="failed", minute=5)),
    "settled beats interrupted": (ended(minute=9), ended(status="interrupted")),
    "most probes": (ended(minute=5, probes="examples"), ended(minute=1), ended(status="failed", probes="examples,x")),
    "the earliest settled": (ended(minute=1), ended(minute=2), ended(minute=3, status="pruned")),
    "the last of the others": (ended(status="failed", minute=3), ended(status="interrupted", minute=2)),
}


@pytest.mark.parametrize("rows", ATTEMPTS.values(), ids=ATTEMPTS)
def test_readers_see_one_attempt_whatever_the_order(tmp_path, rows):
    """The first row of each case is the one to be seen."""
    named = [{**row, "attempt_id": f"a{i}"} for i, row in enumerate(rows)]
    for number, order in enumerate(permutations(named)):
        together = Store(tmp_path / f"together{number}", create=True)
        together.write("trials", order)
        assert together.trials(["attempt_id"])["attempt_id"].to_pylist() == ["a0"]
    apart = Store(tmp_path / "apart", create=True)
    for row in named:
        apart.write("trials", [row])
    assert apart.trials(["attempt_id"])["attempt_id"].to_pylist() == ["a0"]


def test_attempts_that_are_equal_but_in_name_are_told_apart_the_same_way(tmp_path):
    seen = []
    for order in permutations([ended(attempt_id=name) for name in "abc"]):
        store = Store(tmp_path / "".join(row["attempt_id"] for row in order), create=True)
        store.write("trials", order)
        seen.append(store.trials(["attempt_id"])["attempt_id"][0].as_py())
    assert len(set(seen)) == 1


STATUSES = st.sampled_from([status.value for status in Status])
ROWS = st.lists(st.tuples(st.sampled_from("tuv"), STATUSES, st.integers(0, 3), st.sampled_from(["", "examples"])))


@given(ROWS)
@settings(max_examples=40, deadline=None)
def test_every_trial_is_seen_once_and_settled_if_ever(tmp_path_factory, drawn):
    store = Store(tmp_path_factory.mktemp("store"), create=True)
    rows = [ended(t, status, f"a{i}", minute, probes=probes) for i, (t, status, minute, probes) in enumerate(drawn)]
    store.write("trials", rows)
    seen = {row["trial_id"]: row["status"] for row in store.trials().to_pylist()}
    assert len(store.trials()) == len(seen) and seen.keys() == {row["trial_id"] for row in rows}
    settled = {row["trial_id"] for row in rows if row["status"] in SETTLED}
    assert {trial for trial, status in seen.items() if status in SETTLED} == settled == store.settled().keys()


def test_a_second_copy_is_seen_nowhere(store):
    store.write("trials", [ended(attempt_id="first"), ended(attempt_id="zombie", minute=1)])
    store.write("steps", [step(attempt_id="zombie", number=n) for n in (1, 2, 3)])
    store.write("steps", [step(attempt_id="first", number=n) for n in (1, 2)])
    store.write("examples", [{"trial_id": "t", "attempt_id": a, "example": 0} for a in ("zombie", "first")])
    assert store.current("steps", ["attempt_id", "step"]).to_pylist() == [
        {"attempt_id": "first", "step": 1},
        {"attempt_id": "first", "step": 2},
    ]
    assert store.current("examples", ["attempt_id"])["attempt_id"].to_pylist() == ["first"]


def test_rows_without_their_commit_record_are_not_seen(store):
    store.write("steps", [step()])
    assert len(store.current("steps")) == 0
    store.write("trials", [ended()])
    assert len(store.current("steps")) == 1


def test_a_snapshot_tells_what_the_store_told_and_reads_it_once(store):
    store.write("trials", [ended(attempt_id="first"), ended("u"), ended(attempt_id="zombie", minute=1)])
    store.write("steps", [step(attempt_id=attempt, number=n) for attempt in ("zombie", "first") for n in (1, 2)])
    held = {name: store.current(name) for name in SCHEMAS}
    snapshot = Snapshot(store.results)
    for table, rows in held.items():
        assert snapshot.current(table).equals(rows)
    for part in store.results.glob("*/*.parquet"):
        part.unlink()
    store.write("trials", [ended("later")])
    for table, rows in held.items():
        assert snapshot.current(table).equals(rows)
    assert snapshot.trials(["status", "trial_id"]).equals(held["trials"].select(["status", "trial_id"]))
    assert snapshot.current("steps", ["step"]).equals(held["steps"].select(["step"]))


def test_one_attempt_id_may_be_of_several_trials(store):
    store.write("trials", [ended("t", attempt_id="a"), ended("u", attempt_id="b")])
    store.write("steps", [step("t", "a"), step("u", "a"), step("t", "b"), step("u", "b")])
    assert [(r["trial_id"], r["attempt_id"]) for r in store.current("steps").to_pylist()] == [("t", "a"), ("u", "b")]


@pytest.mark.parametrize(
    "table, row",
    [
        ("trials", ended()),
        ("steps", step()),
        ("examples", {"trial_id": "t", "attempt_id": "a", "example": 4}),
        ("packs", {"attempt_id": "a", "pack_id": "p"}),
        ("wanted", {"sweep": "s", "trial_id": "t"}),
    ],
)
def test_rows_written_twice_appear_once(store, table, row):
    store.write("trials", [ended()])
    store.write(table, [row])
    store.write(table, [row, row])
    assert len(store.read(table)) >= 3 and len(store.current(table)) == 1


def test_a_trial_is_wanted_by_several_sweeps(store):
    store.write("wanted", [{"sweep": sweep, "trial_id": "t"} for sweep in ("one", "two")])
    assert store.current("wanted", ["sweep"])["sweep"].to_pylist() == ["one", "two"]


def test_a_copied_folder_adds_nothing(store):
    """Merging two folders that share parts, under whatever names, shows each trial once."""
    path = store.write("trials", [ended(), ended("u", "failed")])
    (path.parent / "copy of it.parquet").write_bytes(path.read_bytes())
    store.write("steps", [step()])
    assert len(store.trials()) == 2 and len(store.current("steps")) == 1


def test_settled_tells_the_probes_recorded(store):
    store.write("trials", [ended(), ended("u", probes="examples"), ended("v", "failed"), ended("w", "interrupted")])
    assert store.settled() == {"t": set(), "u": {"examples"}}


def test_statuses_that_run_again_are_not_settled(store):
    for status in (*RETRIED, Status.INTERRUPTED):
        store.write("trials", [ended(status.value, status.value)])
    assert store.settled() == {} and len(store.trials()) == len(RETRIED) + 1


# Damage.

DAMAGE = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "cut off at the end": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "another file": lambda content: b"trial_id,status\nt,finished\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_named_and_nothing_is_deleted(store, damage):
    store.write("trials", [ended("u")])
    path = store.write("trials", [ended("t")])
    path.write_bytes(damage(path.read_bytes()))
    before = files(store)
    with pytest.raises(StoreError) as caught:
        store.trials()
    message = str(caught.value)
    assert str(path) in message and "Move it out of the folder" in message and "\n" not in message
    assert files(store) == before
    assert [found for found, _ in damaged(store)] == [path]
    path.rename(store.results / path.name)  # as the message says
    assert store.trials(["trial_id"])["trial_id"].to_pylist() == ["u"]
    assert damaged(store) == []


def test_any_flipped_bit_is_found(store):
    path = store.write("trials", [ended("t"), ended("u")])
    content = path.read_bytes()
    for position in range(0, len(content), 61):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x80]) + content[position + 1 :])
        assert [found for found, _ in damaged(store)] == [path], position
        try:
            store.trials()
        except StoreError as error:
            assert str(path) in str(error)


def test_a_text_that_is_none_is_told_with_its_part(store):
    """A bit may flip within a text; Arrow takes whatever Parquet holds."""
    path = store.write("trials", [ended("t", cause="x")])
    rows = pq.read_table(path)
    broken = pa.array([b"\x80"], pa.binary()).view(pa.string())
    pq.write_table(rows.set_column(rows.schema.get_field_index("cause"), "cause", broken), path)
    with pytest.raises(StoreError, match="not a complete Parquet part"):
        store.trials()


def test_a_part_whose_content_was_replaced_is_found(store):
    path = store.write("trials", [ended("t")])
    other = store.write("trials", [ended("u")])
    path.write_bytes(other.read_bytes())
    assert [found for found, _ in damaged(store)] == [path]


def test_whole_parts_are_not_damaged(store):
    store.write("trials", [ended()])
    store.write("wanted", [{"sweep": "s", "trial_id": "t"}])
    assert damaged(store) == []


# Locks.


@pytest.fixture
def holder(store):
    """Another process that holds the lock and has noted a trial."""
    code = f"""
        import time
        from memsweep.results.storage.store import Store
        store = Store({str(store.results)!r})
        with store.lock("launch"):
            store.note_running({{"p": ["t"]}})
            print("held", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_until_the_first_is_killed(store, holder):
    message = rf"memsweep launch \(process {holder.pid} on .*\) is writing to .*--results"
    with pytest.raises(StoreError, match=message), store.lock("launch"):
        pass
    assert store.is_locked() and store.running() == {"t"}
    assert not store.is_locked("track")
    with store.lock("track"):  # another name is another lock
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not store.is_locked() and store.running() == set()
    with store.lock("launch"):
        assert store.is_locked()


def test_a_lock_is_free_after_its_block_even_on_errors(store):
    with pytest.raises(RuntimeError), store.lock():
        raise RuntimeError
    with store.lock():
        pass


def test_a_lock_within_a_lock_is_refused(store):
    with store.lock(), pytest.raises(StoreError, match=f"process {os.getpid()} "), store.lock():
        pass


def test_trials_run_only_while_the_lock_is_held(store):
    assert store.running() == set()
    with store.lock():
        store.note_running({"p": ["t"], "q": ["u"]})
        assert store.running() == {"t", "u"}
        store.note_running({"q": ["other trials of a pack are not written again"]})
        assert store.running() == {"u"}
        assert [path.name for path in (store.results / "running").iterdir()] == ["q.json"]
        (store.results / "running.json").write_text('["t"]')  # by a launch of an older version
        assert store.running() == {"t"}
    assert store.running() == set()


def test_looking_at_a_lock_does_not_take_its_holders_name(store, holder):
    assert store.is_locked()
    with pytest.raises(StoreError, match=f"process {holder.pid} on"), store.lock():
        pass


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


# What is damaged, and what can't be read.


def reading(store):
    """What readers say of the only part, and what doctor says."""
    with pytest.raises(StoreError) as said:
        store.trials()
    ((_, found),) = damaged(store)
    return str(said.value), found


def test_bytes_that_are_no_part_are_damage(store):
    path = store.write("trials", [ended()])
    content = path.read_bytes()
    for wrong in (b"", content[:-9], content[: len(content) // 2] + bytes(40) + content[len(content) // 2 + 40 :]):
        path.write_bytes(wrong)
        for said in reading(store):
            assert "is not a complete Parquet part" in said and "Move it out" in said


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")]
)
def test_what_can_not_be_read_is_not_called_damaged(store, monkeypatch, error):
    """The bytes may be whole: nobody is to move them out."""
    store.write("trials", [ended()])

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(parts.pa, "OSFile", refuse)
    for said in reading(store):
        assert f"can't be read ({error.strerror})" in said and "Do not move it" in said and "Move it" not in said


def test_a_disk_that_fails_midway_is_not_called_damage(store, monkeypatch):
    store.write("trials", [ended()])

    class Failing:
        def __init__(self, path):
            self.file = open(path, "rb")  # noqa: SIM115
            self.closed = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def close(self):
            self.file.close()

        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(parts.pa, "OSFile", lambda path: pa.PythonFile(Failing(path), "r"))
    for said in reading(store):
        assert "can't be read (" in said and "Do not move it" in said


def test_a_link_to_a_part_that_is_gone_is_not_taken_for_merged(store, tmp_path):
    path = store.write("trials", [ended("a")])
    store.write("trials", [ended("b")])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert len(store.trials()) == 2
    (tmp_path / "elsewhere").unlink()
    said, found = reading(store)
    assert "a link to a missing file" in said and "a link to a missing file" in found


def test_a_part_that_is_merged_meanwhile_is_not_damaged(store, monkeypatch):
    gone = store.write("trials", [ended("a")])
    monkeypatch.setattr(store, "parts", lambda table: [gone] if table == "trials" else [])
    gone.unlink()
    assert damaged(store) == []


# Folders that several people share.


@pytest.fixture(params=[0o002, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_locks_are_as_writable_as_parts(tmp_path, umask):
    store = Store(tmp_path / "results", create=True)
    part = store.write("trials", [ended()])
    for name in ("launch", "track", "compact"):
        with store.lock(name):
            path = store.results / f"{name}.lock"
            assert path.stat().st_mode == part.stat().st_mode == 0o100666 & ~umask


def test_a_lock_that_an_older_version_made_is_opened_to_whom_its_folder_is(tmp_path):
    store = Store(tmp_path / "results", create=True)
    store.results.chmod(0o2775)
    path = store.results / "launch.lock"
    path.touch(0o644)
    path.chmod(0o644)
    with store.lock():
        assert path.stat().st_mode & 0o777 == 0o664
    store.results.chmod(0o755)
    path.chmod(0o644)
    with store.lock():
        assert path.stat().st_mode & 0o777 == 0o644


def test_a_lock_of_another_user_that_may_only_be_read_locks_too(store, monkeypatch):
    (store.results / "launch.lock").write_text("process 1 on elsewhere\n")
    system = os.open

    def refuse(path, flags, *rest, **named):
        if str(path).endswith(".lock") and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return system(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    with store.lock():
        assert store.is_locked()
        with pytest.raises(stores.LockedError), store.lock(seconds=0):
            pass
    assert not store.is_locked()


def test_notes_are_as_writable_as_parts(tmp_path, umask):
    store = Store(tmp_path / "results", create=True)
    store.note_running({"p": ["a"]})
    store.note_programs({"p": {}})
    store.note_tracking({"where": "w"})
    store.identity()
    files = [path for path in store.results.rglob("*") if path.is_file()]
    assert len(files) == 5 and {path.stat().st_mode for path in files} == {0o100666 & ~umask}
