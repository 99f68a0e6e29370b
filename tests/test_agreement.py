"""Status, plan, missing, MLflow, verification, report and figures count the same trials in every kind of folder."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from memsweep.analysis.core import frames
from memsweep.analysis.report import report
from memsweep.check.inspection import incomplete, trial_of
from memsweep.results import trial_state
from memsweep.results.mlflow import projection
from memsweep.results.status import overview
from memsweep.results.status import states as states_of
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store
from memsweep.results.trial_state import SETTLED
from memsweep.run import plan
from memsweep.run.rounds.replay import Replay
from memsweep.spec.budget import Budget
from memsweep.spec.sweep_files import load_sweep
from tests.cases import ended, field_columns, step
from tests.test_wanted import fit, launched, sizes, widths

STORED = sorted((Path(__file__).parent / "stored").glob("2*"))
SMOKE = load_sweep("smoke")
NARROW = widths(8, 16)
PROBED = widths(8, 16, probes=("examples",))


def settle(store, trials, status="finished", attempt="a", **fields):
    for trial in trials:
        if status in SETTLED:
            steps = trial.budget
            measured = range(trial.next_measurement(0), steps + 1, trial.next_measurement(0))
            store.write("steps", [step(trial.trial_id, attempt, number) for number in measured])
            fields = {**fields, "step_count": steps}
        if "examples" in fields.get("probes", ""):
            rows = range(trial.data.examples)
            key = {"trial_id": trial.trial_id, "attempt_id": attempt}
            store.write("examples", [{**key, "example": example} for example in rows])
        store.write("trials", [{**field_columns(trial), **ended(trial.trial_id, status, attempt, **fields)}])


def old(store, path):
    shutil.copytree(path, store.results, dirs_exist_ok=True)


def old_and_launched(store):
    old(store, STORED[0])
    launched(store, SMOKE)


def old_and_probed(store):
    old(store, STORED[-1])
    launched(store, SMOKE.with_axes({"probes": [("examples",)]}))


def probes_added(store):
    launched(store, NARROW)
    settle(store, NARROW.trials)
    launched(store, PROBED)
    settle(store, PROBED.trials[:1], attempt="b", probes="examples")


def probes_dropped(store):
    launched(store, PROBED)
    settle(store, PROBED.trials[:3], probes="examples")
    launched(store, NARROW)


def steps_of_probes_added(store):
    for steps in ((3,), (3, 6)):
        sweep = widths(8, 16, probes=("permutations",), probe_steps=steps)
        launched(store, sweep)
    settle(store, sweep.trials[:2], probes="permutations", probe_steps="3")
    settle(store, sweep.trials[2:3], probes="permutations", probe_steps="3,6")


def file_edited(store):
    launched(store, NARROW)
    settle(store, NARROW.trials)
    launched(store, widths(8, 32))
    settle(store, widths(32).trials[:1], "failed", cause="x")


def added(store):
    launched(store, NARROW)
    settle(store, NARROW.trials[:3])
    launched(store, widths(32), add=True)
    settle(store, widths(32).trials[:1], "diverged")


def limited(store):
    settle(store, launched(store, NARROW, limit=2).missing[:1])


def out_of_budget(store):
    settle(store, launched(store, NARROW, budget=Budget(trials=3)).missing)


def every_end(store):
    sweep = widths(*range(4, 10))
    launched(store, sweep)
    ends = ("finished", "pruned", "diverged", "failed", "out_of_memory", "quarantined", "interrupted")
    for trial, end in zip(sweep.trials, ends, strict=False):
        settle(store, [trial], end)


def search_half_run(store):
    sweep = sizes(10, 20, 40, 80, 160)
    rounds = launched(store, sweep)
    fit(store, rounds.trials, 30)
    rounds.next()


def search_resumed(store):
    search_half_run(store)
    rounds = launched(store, sizes(10, 20, 40, 80, 160))
    fit(store, rounds.missing[:2], 30)


def shared_by_two(store):
    other = widths(16, 32, name="other", probes=("examples",))
    launched(store, NARROW, other)
    settle(store, NARROW.trials)


FOLDERS = {
    "empty": lambda store: None,
    **{f"stored {path.name}": (lambda store, path=path: old(store, path)) for path in STORED},
    **{
        make.__name__.replace("_", " "): make
        for make in (
            *(
                old_and_launched,
                old_and_probed,
                probes_added,
                probes_dropped,
                steps_of_probes_added,
                file_edited,
                added,
            ),
            *(limited, out_of_budget, every_end, search_half_run, search_resumed, shared_by_two),
        )
    },
}


@pytest.fixture(params=FOLDERS.values(), ids=FOLDERS)
def store(request, tmp_path):
    made = Store(tmp_path / "results", create=True)
    request.param(made)
    return made


def counts(store):
    """What `status` says, by sweep."""
    return {row["sweep"]: row for row in overview(store)}


def settled(row):
    return sum(row[status] for status in SETTLED)


def wanted(store):
    """Sweep -> what is wanted of it, as trials."""
    found = {}
    for row in store.current("wanted").to_pylist():
        found.setdefault(row["sweep"], []).append(trial_of(row))
    return found


def test_plan_counts_as_status_does(store):
    rows = counts(store)
    assert {sweep: len(trials) for sweep, trials in wanted(store).items()} == {
        s: row["wanted"] for s, row in rows.items()
    }
    for sweep, trials in wanted(store).items():
        left, row = plan.work(trials, store), rows[sweep]
        assert (len(left.settled), len(left.failed), len(left.missing)) == (settled(row), row["failed"], row["missing"])


def test_mlflow_counts_as_status_does(store):
    ends = store.trial_rows(set(store.ends()))
    rows = counts(store)
    plans = projection.plans(store.current("wanted"))
    assert {one.sweep for one in plans} == rows.keys()
    for one in plans:
        row = rows[one.sweep]
        assert one.counts(ends) == {
            "wanted_count": row["wanted"],
            "finished_count": settled(row),
            "failed_count": row["failed"],
            "missing_count": row["missing"],
        }


def test_verification_misses_what_status_does(store):
    """It names a trial once, whatever number of sweeps want it."""
    left = {trial for states in states_of(store).values() for trial, state in states.items() if state not in SETTLED}
    named = [re.match(r"(\w+) of ", line)[1] for line in incomplete(store) if " rows in " not in line]
    assert sorted(named) == sorted(left)


def test_figures_begin_with_what_status_counts_and_use_what_is_settled(store):
    for sweep, row in counts(store).items():
        trials = frames.read(frames.TRIALS, sweep, store)
        states = trials["trial_id"].map(states_of(store)[sweep])
        assert len(trials) == trials["trial_id"].nunique() == row["wanted"]
        assert Counter(states) == {name: row[name] for name in set(states)}
        assert set(trials["trial_id"][states.isin(trial_state.USABLE)]) <= set(
            trials["trial_id"][frames.usable(trials)]
        )


def test_probes_that_figures_read_are_those_that_are_wanted(store):
    for sweep, trials in wanted(store).items():
        probed = {trial.trial_id for trial in trials if "examples" in trial.probes}
        query = frames.beside("examples", "b.example", "examples")
        rows = frames.read(query, sweep, store)
        assert set(rows["trial_id"]) == probed
        states = states_of(store)[sweep]
        assert {t for t in probed if states[t] in SETTLED} == set(rows["trial_id"][rows["example"].notna()])


def test_the_report_says_which_trials_are_stored_without_their_probes(tmp_path):
    made = Store(tmp_path / "results", create=True)
    probes_added(made)
    snapshot = Snapshot(made.results)
    ((sweep, states),) = states_of(snapshot).items()
    section = report._section(snapshot, sweep, states, {})
    assert overview(snapshot, {sweep: states})[0]["missing"] == 3
    assert "3 of 4 trials are stored without the probes or metrics that are wanted: launch again." in section.notices


@pytest.mark.parametrize(
    "make", [probes_added, file_edited, added, limited, out_of_budget, search_half_run, old_and_launched]
)
def test_launching_again_is_planned_to_run_what_status_misses(tmp_path, make):
    """The same sweep as launched last: its missing trials, of a search those of the round at hand."""
    store = Store(tmp_path / "results", create=True)
    make(store)
    again = {
        "probes_added": PROBED,
        "file_edited": widths(8, 32),
        "search_half_run": sizes(10, 20, 40, 80, 160),
        "old_and_launched": SMOKE,
    }.get(make.__name__, NARROW if make is not added else widths(8, 16, 32))
    (row,) = overview(store)
    replay = Replay(again, store)
    assert len(replay.missing()) == row["missing"]
    assert len(replay.missing(retry=True)) == row["missing"] + row["failed"], "as `missing` lists them"
    assert len(Replay(again, store, limit=1, retry=True).trials) == 1, "what a limit shows"
