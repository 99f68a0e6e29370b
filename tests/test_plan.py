"""What is left of a sweep is wanted minus settled; planning it starts and writes nothing."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.results.storage.store import Store
from memsweep.results.trial_state import RETRIED, SETTLED
from memsweep.run import estimation, plan
from memsweep.run import preview as previews
from memsweep.run.estimation import Cost, composed, estimate
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.packing import Pack
from memsweep.run.plan import check, packs, work
from memsweep.run.policy.execution_plan import choose
from memsweep.spec.schema import Status
from memsweep.spec.sweep import Sweep, SweepError
from tests.cases import ended, trial

TRIALS = tuple(trial(seed=seed) for seed in range(6))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def sizes(left):
    return {name: len(getattr(left, name)) for name in ("wanted", "settled", "failed", "missing")}


def settle(store, *statuses, trials=TRIALS, **fields):
    """These statuses for the first trials."""
    rows = [ended(t.trial_id, status, **fields) for t, status in zip(trials, statuses, strict=False)]
    store.write("trials", rows)


def test_all_is_missing_where_nothing_is_stored(store):
    for place in (None, store):
        left = work(TRIALS, place)
        assert left.missing == left.wanted == TRIALS and left.settled == left.failed == ()


def test_wanted_is_split_by_what_is_stored(store):
    settle(store, "finished", "diverged", "failed", "interrupted", "pruned")
    left = work(TRIALS, store)
    assert left.settled == (TRIALS[0], TRIALS[1], TRIALS[4])
    assert left.failed == (TRIALS[2],)
    assert left.missing == (TRIALS[3], TRIALS[5])


def test_failed_trials_run_again_when_asked(store):
    settle(store, "finished", "failed", "out_of_memory", "quarantined")
    left = work(TRIALS, store, retry=True)
    assert left.failed == () and left.missing == TRIALS[1:]


def test_a_retried_trial_that_succeeded_is_settled(store):
    settle(store, "failed", attempt_id="a", minute=5)
    settle(store, "finished", attempt_id="b", minute=1)
    assert work(TRIALS[:1], store).settled == TRIALS[:1]


def test_other_sweeps_trials_count_where_they_are_the_same(store):
    settle(store, "finished", "finished", trials=(TRIALS[1], trial(seed=99)))
    assert work(TRIALS[:2], store).settled == (TRIALS[1],)


def test_a_trial_whose_probes_are_missing_runs_again(store):
    probed = tuple(trial(seed=seed, probes=("examples",)) for seed in range(2))
    settle(store, "finished", attempt_id="bare")
    settle(store, "finished", trials=probed[1:], attempt_id="probed", probes="examples")
    assert work(probed, store).missing == probed[:1] and work(probed, store).settled == probed[1:]
    assert work(TRIALS[:2], store).settled == TRIALS[:2]  # more than is wanted is enough


@given(st.lists(st.sampled_from([None, *Status]), min_size=6, max_size=6), st.booleans(), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_every_wanted_trial_is_in_one_group(tmp_path_factory, statuses, retry, limit):
    store = Store(tmp_path_factory.mktemp("store"), create=True)
    store.write("trials", [ended(t.trial_id, s) for t, s in zip(TRIALS, statuses, strict=True) if s])
    asked = statuses[:limit]
    failed = sum(status in RETRIED for status in asked)
    settled = sum(status in SETTLED for status in asked)
    assert sizes(work(TRIALS[:limit], store, retry=retry)) == {
        "wanted": limit,
        "settled": settled,
        "failed": 0 if retry else failed,
        "missing": limit - settled - (0 if retry else failed),
    }


def test_settling_what_is_missing_leaves_nothing(store):
    settle(store, "finished", "failed", "interrupted")
    for t in work(TRIALS, store, retry=True).missing:
        store.write("trials", [ended(t.trial_id, "finished", "second", minute=1)])
    assert sizes(work(TRIALS, store)) == {"wanted": 6, "settled": 6, "failed": 0, "missing": 0}


def test_data_that_cannot_be_loaded_is_told_all_at_once():
    check(TRIALS)
    wrong = [trial(data__examples=5000), trial(data__input_dim=3), trial(data__input_dim=3, seed=1), *TRIALS]
    with pytest.raises(SweepError) as caught:
        check(wrong)
    assert len(caught.value.problems) == 2
    assert "data.examples = 5000" in caught.value.problems[0] and "data.input_dim = 3" in caught.value.problems[1]


@pytest.mark.parametrize("field", ["data.task", "model.family", "regularization.penalty"])
def test_code_of_the_program_itself_is_refused_before_anything_starts(field):
    with pytest.raises(SweepError, match="__main__:mine: is defined in the program itself"):
        check([trial(**{field.replace(".", "__"): "__main__:mine"})])


def planned(trials, members=None):
    return packs(trials, 1, members, choose(trials, None, "cpu", 1))


def test_members_bound_the_slots():
    assert [pack.slots for pack in planned(TRIALS)] == [6]
    assert [pack.slots for pack in planned(TRIALS, 2)] == [2, 2, 2]


def test_one_pack_of_each_program_and_some_of_many_are_compared():
    many = [trial(seed=seed) for seed in range(40)] + [trial(model__width=9)]
    made = planned(many, 1)
    widths = [pack.trials[0].model.width for pack in made if pack.compared]
    assert sorted(widths) == [8, 8, 8, 9] and len(made) == 41


def test_an_estimate_grows_with_the_work(monkeypatch):
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.05)
    estimate(planned(TRIALS[:1], 1), "cpu", 1)  # the first steps of a process are slow
    short = estimate(planned([trial(seed=s) for s in range(4)], 4), "cpu", 1)
    long = estimate(planned([trial(seed=s, optimizer__epochs=400) for s in range(4)], 4), "cpu", 1)
    assert 0 < short.seconds < long.seconds
    assert short.bytes_a_worker > 4 * 64 * 8 * 4  # the first layer's weights alone


def test_an_estimate_says_how_wrong_it_may_be(monkeypatch):
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    found = estimate(planned(TRIALS[:2]), "cpu", 1)
    assert found.error > 0  # one timed stretch is no certainty


def test_an_estimate_of_nothing_is_nothing():
    assert estimate([], "cpu", 2).seconds == 0 and composed([], 2, measuring=5.0).seconds == 0


def test_a_launch_is_no_shorter_than_its_start_and_end(monkeypatch):
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    assert estimate(planned(TRIALS[:1]), "cpu", 2).seconds > estimation.START_SECONDS + estimation.END_SECONDS


def test_probes_are_asked_for_an_estimate(monkeypatch):
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    (bare,) = planned([trial(seed=seed) for seed in range(3)])
    probed = planned([trial(seed=seed, probes=("critical_samples",), probe_steps=(1, 2)) for seed in range(3)])[0]
    cost = estimation.measured_cost(probed, "cpu")
    assert cost.probes > 0 and cost.repeated > 0
    without = estimation.measured_cost(bare, "cpu")
    assert (without.probes, without.repeated) == (0, 0)


def test_a_probe_that_repeats_the_training_costs_what_a_whole_training_does(monkeypatch):
    """At an estimate few steps are trained; its cost is that of all steps of the budget."""
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    costs = {}
    for steps in (20, 2000):
        fields = {"stop__steps": steps, "stop__measure_steps": 5, "probes": ("loss_sensitivity",)}
        (pack,) = planned([trial("sgd", seed=seed, **fields) for seed in range(2)])
        costs[steps] = estimation.measured_cost(pack, "cpu").probes
    assert costs[2000] > 10 * costs[20]


# What an estimate is composed of, with costs that can be added by hand. A trial's budget is STEPS.

STEPS = TRIALS[0].budget
AROUND = estimation.START_SECONDS + estimation.END_SECONDS


@pytest.fixture
def seconds(monkeypatch):
    """What packs of so many trials each take on so many workers, without start and end."""
    for name in ("TRIAL_SECONDS", "PLANNED_SECONDS"):
        monkeypatch.setattr(estimation, name, 0.0)

    def call(sizes, workers, cost, options=None, **fields):
        packs = [Pack(tuple(trial(seed=seed, **fields) for seed in range(size)), size) for size in sizes]
        return composed([(pack, cost) for pack in packs], workers, **(options or {})).seconds - AROUND

    return call


def test_steps_and_starts_add_up_on_one_worker(seconds):
    assert seconds([3, 2], 1, Cost(step=0.1, start=2.0)) == pytest.approx(5 * STEPS * 0.1 + 2 * 2.0)


def test_the_worker_with_the_most_to_do_decides(seconds):
    assert seconds([3, 3], 2, Cost(step=0.1)) == pytest.approx(3 * STEPS * 0.1)
    assert seconds([4, 2, 2, 1], 2, Cost(step=0.1)) == pytest.approx(5 * STEPS * 0.1)
    assert seconds([4], 2, Cost(step=0.1)) == pytest.approx(4 * STEPS * 0.1)  # nobody helps


def test_each_worker_compiles_a_program_once(seconds):
    assert seconds([1, 1, 1], 1, Cost(step=0.0, compiling=7.0)) == pytest.approx(7.0)
    assert seconds([1, 1, 1], 3, Cost(step=0.0, compiling=7.0)) == pytest.approx(7.0)
    two = [(Pack((trial(model__width=width),), 1), Cost(step=0.0, compiling=7.0)) for width in (8, 9)]
    assert composed(two, 1).seconds == pytest.approx(AROUND + 14.0, abs=0.01)


def test_probes_count_at_the_end_and_at_their_steps(seconds):
    cost = Cost(step=0.0, probes=3.0, repeated=2.0)
    assert seconds([4], 1, cost) == 0
    assert seconds([4], 1, cost, probes=("critical_samples",)) == pytest.approx(4 * 3.0)
    assert seconds([4], 1, cost, probes=("critical_samples",), probe_steps=(1, 5)) == pytest.approx(4 * (3.0 + 2 * 2.0))


def test_what_is_compared_with_its_run_alone_takes_a_tenth(monkeypatch):
    pack = Pack(TRIALS, 6, compared=True)
    training = 6 * STEPS * 0.1
    for name in ("TRIAL_SECONDS", "PLANNED_SECONDS"):
        monkeypatch.setattr(estimation, name, 0.0)
    assert composed([(pack, Cost(step=0.1))], 1).seconds == pytest.approx(AROUND + 1.1 * training)
    short = composed([(pack, Cost(step=1e-9))], 1).seconds
    assert short == pytest.approx(AROUND, abs=1e-3)  # it has ended before


def test_steps_in_checkpoints_are_done(seconds):
    saved = {"reached": {TRIALS[0].trial_id: STEPS // 2}}
    assert seconds([2], 1, Cost(step=0.1), saved) == pytest.approx((2 * STEPS - STEPS // 2) * 0.1)


def test_measuring_new_programs_counts_with_the_start_of_its_workers(seconds):
    measured = seconds([1], 1, Cost(step=0.0), {"measuring": 5.0})
    assert measured == pytest.approx(5.0 + estimation.MEASURING_SECONDS)


def test_rows_and_planning_count_by_trials():
    few, many = (composed([(Pack(TRIALS[:n], n), Cost(step=0.0))], 1).seconds for n in (1, 5))
    assert many - few == pytest.approx(4 * (estimation.TRIAL_SECONDS + estimation.PLANNED_SECONDS))


def test_a_round_of_a_search_trains_to_its_pause(seconds):
    pack = Pack(TRIALS[:1], 1, share=0.5)
    assert composed([(pack, Cost(step=1.0))], 1).seconds == pytest.approx(AROUND + TRIALS[0].pause(0.5), abs=0.01)


def test_a_program_is_shared_out_only_where_there_are_few():
    one = [trial(seed=seed) for seed in range(6)]
    many = [trial(model__width=width, seed=seed) for width in range(4, 12) for seed in range(3)]
    chosen = choose([*one, *many], None, "cpu", 2)
    assert [len(pack.trials) for pack in packs(one, 2, None, chosen)] == [3, 3]
    assert [len(pack.trials) for pack in packs(many, 2, None, chosen)] == [3] * 8


@pytest.mark.parametrize(("family", "counts"), [("mlp", False), ("tests.cases:Normalized", True)])
def test_a_plan_counts_the_time_of_trying_a_user_s_code(family, counts, monkeypatch):
    """A launch tries it too, before it starts Ray."""
    nothing = estimate([], "cpu", 1)
    monkeypatch.setattr(plan, "check", lambda _, searches=(): time.sleep(0.5) or [])
    monkeypatch.setattr(previews.execution_plan, "choose", lambda *_, **__: {})
    monkeypatch.setattr(plan, "packs", lambda *_: [])
    sweep = Sweep("tried", {"model.family": family, "optimizer.epochs": 1})
    found = previews.preview(sweep, None, LaunchOptions(device="cpu", workers=1), lambda _: None)
    assert (found.estimate.seconds - nothing.seconds >= 0.5) == counts
