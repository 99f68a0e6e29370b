"""What a sweep wants: what its last launch says, whole or not at all, and whatever bounds that launch."""

import gc
import shutil
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

import memsweep
from memsweep import CapacitySearch, Sweep
from memsweep.check.inspection import inspect
from memsweep.results.compaction import compact
from memsweep.results.status import failures, overview
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.rounds import definition
from memsweep.run.rounds.replay import Replay
from memsweep.run.rounds.rounds import Rounds
from memsweep.spec.budget import Budget
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.sweep_files import load_sweep
from tests.cases import ended, field_columns, step

DIGITS = {"data.task": "digits"}
SEARCH = CapacitySearch()


def widths(*values, name="widths", **fields):
    return Sweep(name, {**DIGITS, **fields}, axes={"model.width": values}, seeds=range(2))


def sizes(*values, seeds=2):
    """A search for the largest of these training sets that is fitted."""
    return Sweep(
        "sizes", {**DIGITS, "stop.fit": 1.0}, axes={"data.examples": values}, seeds=range(seeds), search=SEARCH
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def launched(store, *sweeps, add=False, **bounds):
    """What a launch does before it trains."""
    more = {"add": True} if add else {}
    records = [{"records": definition.records_before(sweep.name, store)} if add else {} for sweep in sweeps]
    rounds = Rounds(
        [Replay(sweep, store, **own) for sweep, own in zip(sweeps, records, strict=True)], store, **bounds, **more
    )
    rounds.note()
    return rounds


def settle(store, trials, status="finished", **fields):
    store.write("trials", [ended(trial.trial_id, status, **fields) for trial in trials])


def fit(store, trials, most):
    """They end, and have fitted what is not larger than this."""
    for trial in trials:
        fitted = 1 if trial.data.examples <= most else None
        end = ended(trial.trial_id, fitted_step=fitted, step_count=trial.budget)
        store.write("trials", [{**field_columns(trial), **end}])
        store.write("steps", [step(trial.trial_id, number=trial.budget)])


def wanted(store, sweep="widths"):
    """What the sweep wants, by position: trial_id."""
    rows = [row for row in store.current("wanted").to_pylist() if row["sweep"] == sweep]
    assert sorted(row["position"] for row in rows) == list(range(len(rows)))
    return [row["trial_id"] for row in sorted(rows, key=lambda row: row["position"])]


def ids(*sweeps):
    return [trial.trial_id for sweep in sweeps for trial in sweep.trials]


def told(sweep, trial, position, **others):
    """A row as older versions wrote it."""
    (row,) = [row for row in map(dict, _rows(sweep)) if row["trial_id"] == trial.trial_id]
    return {**row, "position": position, **others}


def _rows(sweep):
    import json

    for trial in sweep.trials:
        yield {
            "sweep": sweep.name,
            "trial_id": trial.trial_id,
            "seed": trial.seed,
            "probes": ",".join(trial.probes),
            "configuration": json.dumps(trial.flat()),
        }


# the last launch defines it


def test_a_file_that_was_edited_defines_what_is_wanted_and_former_trials_are_counted_apart(store):
    before, after = widths(8, 16), widths(8, 32)
    launched(store, before)
    settle(store, before.trials)
    launched(store, after)
    assert wanted(store) == ids(after)
    (row,) = overview(store)
    assert (row["wanted"], row["finished"], row["missing"], row["former"]) == (4, 2, 2, 2)


def test_former_trials_are_wanted_again_when_they_are_launched_again(store):
    before, once = widths(8, 16), widths(8, 16, **{"optimizer.epochs": 10})
    for sweep in (before, once, before):
        launched(store, sweep)
        settle(store, sweep.trials)
        assert wanted(store) == ids(sweep)
    (row,) = overview(store)
    assert (row["wanted"], row["finished"], row["missing"], row["former"]) == (4, 4, 0, 4)


def test_causes_of_former_trials_are_not_told(store):
    launched(store, widths(8, 16))
    settle(store, widths(16).trials, "failed", cause="x")
    assert len(failures(store)) == 2
    launched(store, widths(8))
    assert failures(store) == []
    launched(store, widths(16, name="other"))
    assert len(failures(store)) == 2, "another sweep wants them"


def test_launching_the_same_again_writes_nothing(store):
    sweep = widths(8, 16)
    launched(store, sweep)
    before = store.parts("wanted")
    launched(store, sweep, budget=Budget(trials=1))
    assert store.parts("wanted") == before


def test_add_keeps_what_was_wanted(store):
    launched(store, widths(8, 16))
    launched(store, widths(32), add=True)
    assert sorted(wanted(store)) == sorted(ids(widths(8, 16), widths(32)))
    before = store.parts("wanted")
    launched(store, widths(8), add=True)
    assert store.parts("wanted") == before, "it is wanted already"
    launched(store, widths(8))
    assert wanted(store) == ids(widths(8))


def test_other_sweeps_stay_as_they_are(store):
    launched(store, widths(8), widths(8, 16, name="other"))
    launched(store, widths(32))
    assert wanted(store) == ids(widths(32)) and wanted(store, "other") == ids(widths(8, 16))
    assert sum(row["former"] for row in overview(store)) == 0, "nothing is stored"


@pytest.mark.parametrize("bounds", [{"limit": 1}, {"budget": Budget(trials=1)}])
def test_what_a_launch_may_run_has_no_say_in_what_is_wanted(store, bounds):
    sweep = widths(8, 16)
    rounds = launched(store, sweep, **bounds)
    assert wanted(store) == ids(sweep) and [t.trial_id for t in rounds.missing] == ids(sweep)[:1]
    settle(store, sweep.trials[:1])
    assert [part.trials for part in rounds.next()] == [[]], "and it ends"


def test_a_limit_counts_trials_of_each_sweep_and_settled_ones_too(store):
    one, other = widths(8, 16), widths(16, 32, name="other")
    settle(store, one.trials[:1])
    rounds = launched(store, one, other, limit=2)
    assert [t.trial_id for t in rounds.missing] == [*ids(one)[1:2], *ids(other)[:2]]
    within = [trial.trial_id for trial in rounds.within_limit(rounds.trials)]
    assert within == [*ids(one)[:2], *ids(other)[:2]] and rounds.count == 4


def test_a_launch_with_a_clock_that_is_behind_defines_it_all_the_same(store):
    launched(store, widths(8))
    rows = store.read("wanted").to_pylist()
    later = datetime.now(UTC) + timedelta(days=400)
    store.write("wanted", [{**row, "launched_at": later, "launch_id": "x-y"} for row in rows])
    launched(store, widths(16))
    assert wanted(store) == ids(widths(16))


# probes


@pytest.mark.parametrize("name", [f"probed{number}" for number in range(8)])
def test_of_two_launches_the_newer_says_which_probes_are_wanted(store, name):
    """Whatever its name, by which parts are ordered."""
    bare, probed = (widths(8, name=name, **fields) for fields in ({}, {"probes": ("examples",)}))
    launched(store, bare)
    settle(store, bare.trials)
    launched(store, probed)
    rows = memsweep.sql(
        f"select trial_id from wanted where probes like '%examples%' and sweep = '{name}'", store.results
    )
    assert sorted(rows["trial_id"]) == sorted(ids(probed))
    left = len(Replay(probed, store).missing())
    assert overview(store)[0]["missing"] == left == 2 and overview(store)[0]["finished"] == 0
    settle(store, bare.trials, attempt_id="b", probes="examples")
    assert overview(store)[0]["missing"] == len(Replay(probed, store).missing()) == 0
    launched(store, bare)
    assert set(store.current("wanted", ["probes"])["probes"].to_pylist()) == {""}


def test_add_keeps_probes_and_asks_for_them(store):
    bare = widths(8, 16)
    fields = {"probes": ("permutations",), "probe_steps": (3, 5)}
    launched(store, widths(8, **fields))
    rounds = launched(store, bare, add=True)
    assert [(t.model.width, t.probes, t.probe_steps) for t in rounds.missing if t.seed == 0] == [
        (8, ("permutations",), (3, 5)),
        (16, (), ()),
    ]
    settle(store, bare.trials, probes="permutations", probe_steps="3")
    assert overview(store)[0]["missing"] == 2, "a step is lacking"


# whole or not at all


def test_it_is_written_in_several_parts_that_read_as_one(store, monkeypatch):
    monkeypatch.setattr(definition, "WANTED_ROWS", 3)
    launched(store, widths(8, 16, 32, 64))
    assert len(store.parts("wanted")) == 3 and wanted(store) == ids(widths(8, 16, 32, 64))
    launched(store, widths(2), add=True)
    assert len(store.parts("wanted")) == 7 and wanted(store) == ids(widths(8, 16, 32, 64), widths(2))


@pytest.mark.parametrize("written", range(4))
def test_a_launch_that_is_killed_between_two_parts_has_defined_nothing(store, monkeypatch, written):
    monkeypatch.setattr(definition, "WANTED_ROWS", 3)
    before, after = widths(8, 16), widths(8, 16, 32, 64, 128)
    launched(store, before)
    parts, write = [], store.write

    def killed(table, rows):
        if len(parts) == written:
            raise KeyboardInterrupt
        parts.append(write(table, rows))

    monkeypatch.setattr(store, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        launched(store, after)
    monkeypatch.undo()
    assert wanted(store) == ids(before)
    assert [finding.kind for finding in inspect(store)] == ["rows"] * bool(written)
    launched(store, after)
    assert wanted(store) == ids(after) and list(inspect(store)) == []


def test_a_first_launch_that_is_killed_between_two_parts_wants_nothing_yet(store, monkeypatch):
    monkeypatch.setattr(definition, "WANTED_ROWS", 3)
    launched(store, widths(8, 16))
    store.parts("wanted")[0].unlink()
    assert wanted(store) == [] and overview(store) == []


def test_compaction_keeps_launches_apart(store, monkeypatch):
    monkeypatch.setattr(definition, "WANTED_ROWS", 3)
    for sweep in (widths(8, 16), widths(8, 16, **{"probes": ("examples",)}), widths(8, 32)):
        launched(store, sweep)
        settle(store, sweep.trials)
    rows, states = store.read("wanted").num_rows, overview(store)
    compact(store)
    assert len(store.parts("wanted")) == 1 and store.read("wanted").num_rows == rows
    assert overview(store) == states and wanted(store) == ids(widths(8, 32))


def test_of_two_folders_copied_into_one_the_newer_launch_counts(store, tmp_path):
    other = Store(tmp_path / "other", create=True)
    launched(store, widths(8))
    launched(other, widths(16))
    launched(other, widths(8, name="theirs"))
    settle(store, widths(8).trials)
    shutil.copytree(other.results, store.results, dirs_exist_ok=True)
    assert wanted(store) == ids(widths(16)) and wanted(store, "theirs") == ids(widths(8))
    launched(store, widths(8, 16))
    assert wanted(store) == ids(widths(8, 16)) and overview(store)[1]["missing"] == 2


# searches


def test_rounds_belong_to_one_launch_and_a_replay_keeps_them(store):
    sweep = sizes(10, 20, 40, 80, 160)
    rounds = launched(store, sweep)
    first = [trial.trial_id for trial in rounds.trials]
    fit(store, rounds.trials, 30)
    rounds.next()
    both = [trial.trial_id for trial in rounds.trials]
    assert wanted(store, "sizes") == both and len(both) > len(first)
    launches = store.current("wanted", ["launch_id", "round"]).to_pydict()
    assert len(set(launches["launch_id"])) == 1 and set(launches["round"]) == {1, 2}
    parts = store.parts("wanted")
    launched(store, sweep)
    assert store.parts("wanted") == parts, "the same search again"
    shutil.rmtree(store.results / "trials")
    again = launched(store, sweep)
    assert len(again.trials) == len(first) and wanted(store, "sizes") == both, "still on its way there"


def test_a_search_that_comes_to_other_trials_defines_what_is_wanted_anew(store):
    sweep = sizes(10, 20, 40, 80, 160)
    rounds = launched(store, sweep)
    fit(store, rounds.trials, 30)
    rounds.next()
    before = wanted(store, "sizes")
    shutil.rmtree(store.results / "trials")
    rounds = launched(store, sweep)
    fit(store, rounds.trials, 500)
    rounds.next()
    now = [trial.trial_id for trial in rounds.trials]
    assert wanted(store, "sizes") == now != before


def test_a_search_of_another_grid_does_not_keep_the_rounds_of_the_one_before(store):
    launched(store, sizes(10, 20, 40, seeds=3))
    rounds = launched(store, sizes(10, 20, 40, seeds=1))
    assert wanted(store, "sizes") == [trial.trial_id for trial in rounds.trials]


def test_a_round_that_is_stored_in_part_does_not_count_and_the_launch_does(store, monkeypatch):
    sweep = sizes(10, 20, 40, 80, 160, seeds=8)
    rounds = launched(store, sweep)
    first = wanted(store, "sizes")
    fit(store, rounds.trials, 30)
    monkeypatch.setattr(definition, "WANTED_ROWS", 3)
    before = set(store.parts("wanted"))
    rounds.next()
    new = set(store.parts("wanted")) - before
    whole = wanted(store, "sizes")
    assert len(new) > 1 and len(whole) > len(first)
    min(new).unlink()
    assert wanted(store, "sizes") == first
    launched(store, sweep)
    assert wanted(store, "sizes") == whole


def test_a_limit_of_a_search_wants_the_whole_round_and_goes_no_further(store):
    sweep = sizes(10, 20, 40, 80, 160)
    whole = [trial.trial_id for trial in Replay(sweep, store).trials]
    rounds = launched(store, sweep, limit=1)
    assert wanted(store, "sizes") == whole and len(whole) > len(rounds.missing) == 1
    fit(store, rounds.missing, 30)
    assert [part.trials for part in rounds.next()] == [[]]


# folders of older versions, whose rows name no launch


def test_all_that_older_versions_wrote_counts_until_there_is_a_launch(store):
    one, other = widths(8, 16), widths(8, 32)
    for sweep in (one, other):
        store.write("wanted", [told(sweep, trial, i) for i, trial in enumerate(sweep.trials)])
    assert {*store.current("wanted")["trial_id"].to_pylist()} == {*ids(one), *ids(other)}
    settle(store, [*one.trials, *other.trials])
    assert overview(store)[0]["wanted"] == 6
    launched(store, other)
    assert wanted(store) == ids(other) and overview(store)[0]["former"] == 2


def test_add_keeps_what_older_versions_wrote(store):
    store.write("wanted", [told(widths(8), trial, 7) for trial in widths(8).trials])
    launched(store, widths(16), add=True)
    assert sorted(wanted(store)) == sorted(ids(widths(8, 16)))


@pytest.mark.parametrize("number", range(6))
def test_of_two_rows_of_older_versions_the_one_with_more_probes_counts(store, number):
    sweep, probed = widths(number + 8), widths(number + 8, probes=("examples",))
    for one in (sweep, probed):
        store.write("wanted", [told(one, trial, i) for i, trial in enumerate(one.trials)])
    for _ in range(2):
        assert set(store.current("wanted", ["probes"])["probes"].to_pylist()) == {"examples"}
        compact(store)


def test_an_empty_table_wants_nothing(store):
    assert store.current("wanted").schema.names == SCHEMAS["wanted"].names and overview(store) == []


def test_a_sweep_file_is_wanted_whole_under_a_limit(tmp_path, ray_address):
    report = memsweep.launch("smoke", tmp_path, limit=2, tracking_uri="none", address=ray_address)
    assert (report.wanted, report.ran, report.missing, report.unfinished) == (12, 2, 10, 0)
    assert len(memsweep.table("wanted", tmp_path)) == len(load_sweep("smoke").trials) == 12


def test_a_million_trials_fit_into_the_memory_of_a_laptop(store):
    def held(count):
        """Bytes of a launch that is about to train."""
        tracemalloc.start()
        sweep = Sweep("large", DIGITS, axes={"model.width": (4, 8)}, seeds=range(count // 2))
        rounds = Rounds([Replay(sweep, None)], store)
        work = plan.work(rounds.trials, None)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(work.missing) == len(rounds.missing) == count
        return size

    held(10)  # what is cached
    assert held(6000) - held(2000) < 300 * 4000
