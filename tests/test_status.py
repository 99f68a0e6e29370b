"""How far each sweep is: every wanted trial is counted in one column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.results.status import failures, overview, tracking
from memsweep.results.storage.store import Store
from memsweep.results.trial_state import RETRIED, SETTLED
from memsweep.spec.schema import Status, reproduction
from tests.cases import ended, trial


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def want(store, sweep, *trial_ids):
    store.write("wanted", [{"sweep": sweep, "trial_id": trial_id} for trial_id in trial_ids])


def test_an_empty_folder_has_no_sweeps(store):
    assert overview(store) == [] and failures(store) == []


def test_each_trial_is_counted_where_it_stands(store):
    want(store, "q", *"abcdefg")
    rows = [ended("a"), ended("b", "pruned"), ended("c", "diverged"), ended("d", "failed"), ended("e", "interrupted")]
    store.write("trials", rows)
    with store.lock():
        store.note_running({"p": ["f", "a"]})
        (row,) = overview(store)
    assert row == {
        "sweep": "q",
        "wanted": 7,
        "finished": 1,
        "pruned": 1,
        "diverged": 1,
        "running": 1,
        "failed": 1,
        "missing": 2,
        "former": 0,
    }


def test_a_failed_trial_that_runs_again_is_running(store):
    want(store, "q", "a")
    store.write("trials", [ended("a", "failed")])
    with store.lock():
        store.note_running({"p": ["a"]})
        assert overview(store)[0]["running"] == 1
    assert overview(store)[0]["failed"] == 1


def test_sweeps_share_trials_and_are_listed_by_name(store):
    want(store, "second", "a", "b")
    want(store, "first", "a")
    store.write("trials", [ended("a"), ended("unwanted")])
    rows = overview(store)
    assert [(row["sweep"], row["wanted"], row["finished"], row["missing"]) for row in rows] == [
        ("first", 1, 1, 0),
        ("second", 2, 1, 1),
    ]


def test_a_sweep_launched_twice_is_counted_once(store):
    want(store, "q", "a", "b")
    want(store, "q", "a", "b", "c")
    assert overview(store)[0]["wanted"] == 3


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(list(Status))), st.sets(st.sampled_from("abcdefgh"))
)
@settings(max_examples=30, deadline=None)
def test_columns_add_up_to_wanted(tmp_path_factory, ends, wanted):
    store = Store(tmp_path_factory.mktemp("store"), create=True)
    want(store, "q", *sorted(wanted))
    store.write("trials", [ended(trial, status.value) for trial, status in ends.items()])
    for row in overview(store):
        counts = {name: count for name, count in row.items() if name not in ("sweep", "wanted", "former")}
        assert sum(counts.values()) == row["wanted"] == len(wanted)
        assert counts["failed"] == sum(ends.get(trial) in RETRIED for trial in wanted)
        assert row["wanted"] - counts["failed"] - counts["missing"] == sum(ends.get(t) in SETTLED for t in wanted)


def test_a_failure_is_told_with_its_last_line_and_advice(store):
    cause = "Traceback (most recent call last):\n  File 'x'\nValueError: width too small\n"
    store.write("trials", [ended("a", "failed", cause=cause), ended("b"), ended("c", "interrupted")])
    assert failures(store) == [("a", "failed", f"ValueError: width too small. {Status.FAILED.advice}")]


@pytest.mark.parametrize("cause", [None, "", "  \n"])
def test_a_failure_without_a_cause_is_told_too(store, cause):
    store.write("trials", [ended("a", "out_of_memory", cause=cause)])
    assert failures(store) == [("a", "out_of_memory", f"no cause. {Status.OUT_OF_MEMORY.advice}")]


def test_a_failure_that_was_mended_is_not_told(store):
    store.write("trials", [ended("a", "failed", cause="x", minute=9), ended("a", attempt_id="b")])
    assert failures(store) == []


def test_the_error_is_told_and_not_the_command_that_shows_it(store):
    cause = f"Traceback (most recent call last):\nValueError: too small\n\n{reproduction(trial(), 'results')}\n"
    store.write("trials", [ended("a", "failed", cause=cause)])
    assert failures(store) == [("a", "failed", f"ValueError: too small. {Status.FAILED.advice}")]


def test_nothing_is_said_of_a_tracking_that_never_was(store):
    assert tracking(store) == ""
    for text in ("[broken", "[]", '{"held": [1]}', '{"held": {"q": "many"}}'):
        (store.results / "tracking.json").write_text(text)
        assert tracking(store).startswith("MLflow at None holds all 0" if "many" in text else "")


@pytest.mark.parametrize(
    "note, said",
    [
        ({"held": {"q": 3}}, "MLflow at w holds all 3 trials that have ended"),
        ({"held": {"q": 1}}, "MLflow at w lacks 2 of 3 trials: memsweep track --results {} fills it"),
        (
            {"held": {}, "error": "no answer.", "since": "noon"},
            "MLflow at w can't be filled since noon, and lacks 3 of 3 trials: no answer; "
            "memsweep track --results {} fills it",
        ),
    ],
)
def test_what_mlflow_holds_is_said(store, note, said):
    want(store, "q", *"abcd")
    store.write("trials", [ended("a"), ended("b", "failed"), ended("c")])
    store.note_tracking({"where": "w", **note})
    assert tracking(store) == said.format(store.results)


def test_runs_that_are_still_being_written_are_not_called_lacking_for_good(store):
    want(store, "q", "a")
    store.write("trials", [ended("a")])
    store.note_tracking({"where": "w", "held": {}})
    with store.lock("track"):
        assert tracking(store) == "MLflow at w is being filled: it lacks 1 of 1 trials"
