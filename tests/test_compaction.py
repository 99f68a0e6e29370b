"""Merged parts hold what small ones held, for whoever reads or writes meanwhile, and however they are interrupted."""

import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memsweep.check.inspection import damaged
from memsweep.results import compaction
from memsweep.results.compaction import compact, merge_small
from memsweep.results.storage.store import LockedError, Store, StoreError
from memsweep.run import merging
from memsweep.spec.part import Part
from memsweep.spec.schema import SCHEMAS
from tests.cases import ended, step
from tests.test_launch import memsweep_


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def fill(store, trials):
    """A part a trial and table, as a careful worker would write them."""
    for trial in trials:
        store.write("steps", [step(f"t{trial}", "a", number) for number in (1, 2)])
        store.write("trials", [ended(f"t{trial}")])
        store.write("wanted", [{"sweep": "s", "trial_id": f"t{trial}", "position": trial}])


def rows(store):
    """What readers see, in an order of its own."""
    tables = {name: store.current(name) for name in SCHEMAS}
    return {name: sorted(map(repr, table.to_pylist())) for name, table in tables.items()}


def test_many_parts_become_few_and_hold_the_same(store):
    fill(store, range(30))
    before = rows(store)
    assert [(m.table, m.parts_before, m.parts, m.rows_dropped) for m in compact(store)] == [
        ("steps", 30, 1, 0),
        ("trials", 30, 1, 0),
        ("wanted", 30, 1, 0),
    ]
    assert rows(store) == before and damaged(store) == []


def test_twice_is_once(store):
    generator = np.random.default_rng(0)
    for trial in range(12):
        norms = generator.random(1000)  # which can't be compressed
        store.write("steps", [step(f"t{trial}", number=i, gradient_norm=norm) for i, norm in enumerate(norms)])
    size = store.parts("steps")[0].stat().st_size
    before = rows(store)
    assert compact(store, 4 * size) != compact(store, 4 * size)
    first = store.parts("steps")
    assert 2 <= len(first) <= 6 and all(path.stat().st_size <= 4 * size for path in first) and rows(store) == before
    assert compact(store, 4 * size) == [("steps", len(first), len(first), 0)] and store.parts("steps") == first


def test_rows_of_attempts_that_lost_are_dropped_and_those_without_an_end_are_not(store):
    fill(store, range(3))
    store.write("trials", [ended("t0", "failed", "b")])
    store.write("steps", [step("t0", "b", 1)])  # lost against the finished attempt
    store.write("steps", [step("t3", "c", 1)])  # of a trial that is still being trained
    before = rows(store)
    dropped = {merged.table: merged.rows_dropped for merged in compact(store)}
    assert dropped == {"steps": 1, "wanted": 0, "trials": 1} and rows(store) == before
    store.write("trials", [ended("t3", attempt_id="c")])
    assert [row["trial_id"] for row in store.current("steps").to_pylist()].count("t3") == 1


def test_copies_are_dropped(store):
    fill(store, range(2))
    store.write("steps", [step("t0", "a", 1), step("t0", "a", 2), step("t1", "a", 1), step("t1", "a", 2)])
    before = rows(store)
    assert next(merged for merged in compact(store) if merged.table == "steps").rows_dropped == 4
    assert rows(store) == before and len(store.read("steps")) == 4


def test_a_damaged_part_stops_it_before_anything_is_deleted(store):
    fill(store, range(5))
    damaged = store.results / "steps" / "0.parquet"
    damaged.write_bytes(b"PAR1")
    files = sorted(store.results.rglob("*.parquet"))
    with pytest.raises(StoreError, match="not a complete Parquet part"):
        compact(store)
    assert sorted(store.results.rglob("*.parquet")) == files


def test_one_at_a_time(store):
    with store.lock("compact"), pytest.raises(LockedError, match=r"memsweep compact .* is writing"):
        compact(store)


WRITER = """
    import sys
    from memsweep.results.storage.store import Store
    from tests.test_compaction import fill
    store = Store(sys.argv[1])
    for trial in range(100, int(sys.argv[2])):
        fill(store, [trial])
"""


def reads_beside(store, there, last):
    """Compacts while a process adds trials 100 to `last` and a thread reads; how often it read, always whole tables.

    there: trials stored before.
    """
    fill(store, range(there))
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(store.results), str(last)])
    wrong, reads, is_over = [], [], threading.Event()

    def read():
        while not is_over.is_set():
            trials, steps = store.trials(), store.current("steps")
            reads.append(len(trials))
            seen = {row["trial_id"] for row in steps.to_pylist()}
            if len(trials) < there or not seen >= {f"t{i}" for i in range(there)} or len(steps) != 2 * len(seen):
                wrong.append((len(trials), len(steps)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while writer.poll() is None:
            compact(store)
    finally:
        is_over.set()
        reader.join()
        writer.kill()
    assert writer.returncode == 0 and not wrong
    before = rows(store)
    compact(store)
    count = there + last - 100
    assert len(store.parts("trials")) == 1 and len(store.trials()) == count and len(store.current("steps")) == 2 * count
    assert rows(store) == before
    return len(reads)


def test_a_reader_and_a_writer_beside_it_miss_nothing(store):
    assert reads_beside(store, 100, 300) > 3


def test_interrupted_it_loses_nothing_and_the_next_one_ends_the_work(store, monkeypatch):
    fill(store, range(10))
    before = rows(store)

    class StopError(Exception):
        pass

    def stop(*_args, **_options):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", stop)
        with pytest.raises(StopError):
            compact(store)
    assert len(store.parts("steps")) == 11 and rows(store) == before
    compact(store)
    assert len(store.parts("steps")) == 1 and rows(store) == before


def test_the_verb(store):
    fill(store, range(4))
    found = memsweep_("compact", "--results", str(store.results), "--format", "csv")
    assert found.returncode == 0 and '"trials",4,1,0' in found.stdout
    refused = memsweep_("compact", "--results", str(store.results / "nowhere"))
    assert refused.returncode == 2 and "no results at" in refused.stderr


# Behind a launch.


def fill_as_packs(store, packs, *, ended_packs):
    """Parts as packs leave them, one trial each, with a row of `packs` of those that have ended."""
    for number in range(packs):
        attempt = f"a{number}"
        store.write("steps", [step(f"t{number}", attempt, 1)])
        store.write("trials", [ended(f"t{number}", attempt_id=attempt)])
        if number < ended_packs:
            store.write("packs", [{"attempt_id": attempt, "pack_id": attempt}])


def counts(store):
    return {table: len(store.parts(table)) for table in ("trials", "steps", "packs")}


def test_parts_of_packs_at_work_are_left_alone_until_they_have_ended(store):
    fill_as_packs(store, 12, ended_packs=9)
    store.write("live", [step("t12", "a12", 1)])
    before, others = rows(store), [store.results / "live" / path.name for path in store.parts("live")]
    merge_small(store, 3, lambda: True, at_work=True)
    assert counts(store) == {"trials": 1 + 3, "steps": 1 + 3, "packs": 1} and rows(store) == before
    merge_small(store, 3, lambda: True, at_work=False)
    assert counts(store) == {"trials": 1, "steps": 1, "packs": 1} and rows(store) == before
    assert store.parts("live") == others
    merged = store.parts("trials")
    fill_as_packs(store, 3, ended_packs=3)  # few parts more, which hold the same
    merge_small(store, 5, lambda: True, at_work=True)
    assert set(merged) < set(store.parts("trials")) and rows(store) == before


def test_parts_of_a_newer_version_are_left_whole(store):
    fill_as_packs(store, 6, ended_packs=6)
    newer = store.parts("trials")[0]
    table = pq.read_table(newer)
    pq.write_table(table.append_column("a_later_column", pa.array(["kept"] * len(table))), newer)
    merge_small(store, 2, lambda: True, at_work=False)
    assert counts(store) == {"trials": 2, "steps": 1, "packs": 1}
    assert pq.read_table(newer)["a_later_column"].to_pylist() == ["kept"] * len(table)


def test_merging_stops_between_two_batches_and_lets_another_compaction_be(store, monkeypatch):
    monkeypatch.setattr(compaction, "BATCH", 4)
    fill_as_packs(store, 12, ended_packs=12)
    before, turns = rows(store), iter([True, False])
    with store.lock("compact"):
        merge_small(store, 2, lambda: True, at_work=False)
    assert counts(store) == {"trials": 12, "steps": 12, "packs": 12}
    merge_small(store, 2, lambda: next(turns), at_work=False)
    assert sorted(counts(store).values()) == [9, 12, 12] and rows(store) == before


def test_a_launch_merges_beside_packs_and_an_error_stops_nothing(store, monkeypatch):
    monkeypatch.setattr(merging, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(merging, "MANY", 3)
    monkeypatch.setattr(merging, "END_SECONDS", 600.0)
    fill_as_packs(store, 8, ended_packs=8)
    before, remarks = rows(store), []
    with store.lock("launch", part=Part(1, 2)), store.lock("launch", part=Part(2, 2)):
        with merging.behind(store, Part(1, 2), remarks):
            time.sleep(0.2)
        assert counts(store) == {"trials": 8, "steps": 8, "packs": 8}  # the other part may write to any table
    with merging.behind(store, None, remarks):
        until = time.monotonic() + 20
        while counts(store) != {"trials": 1, "steps": 1, "packs": 1} and time.monotonic() < until:
            time.sleep(0.02)
    assert counts(store) == {"trials": 1, "steps": 1, "packs": 1} and rows(store) == before and not remarks
    fill_as_packs(store, 20, ended_packs=0)
    damaged_part = store.results / "trials" / "0.parquet"
    damaged_part.write_bytes(b"PAR1")
    merging.finish(store, None, remarks)
    (message,) = remarks
    assert "not a complete Parquet part" in message and damaged_part.exists()
    damaged_part.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "unique", lambda rows, table: rows.take([len(rows)]))
        merging.finish(store, None, remarks)  # any error leaves the parts as they are
    assert len(remarks) == 2 and "out of bounds" in remarks[1] and counts(store)["trials"] == 21
    merging.finish(store, None, remarks)
    assert counts(store) == {"trials": 1, "steps": 1, "packs": 1}
