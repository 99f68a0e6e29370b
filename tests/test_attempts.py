"""Readers see one attempt a trial, whatever the order of parts and rows."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store
from memsweep.results.trial_state import RETRIED, SETTLED
from memsweep.spec.schema import SCHEMAS, Status
from tests.cases import ended, step


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


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
