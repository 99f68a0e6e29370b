"""Merged parts hold what small ones held, for whoever reads or writes meanwhile, and however they are interrupted."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from memsweep.check.inspection import damaged
from memsweep.results.compaction import compact
from memsweep.results.storage.store import LockedError, Store, StoreError
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
