"""What searches ask for, and what they find, on outcomes that are known beforehand; no network is trained."""

import math

import pytest

from memsweep import BestSearch, BoundarySearch, CapacitySearch, Range, Sweep, SweepError, linspace, logspace
from memsweep.run.rounds.search import rounds as best_rounds
from memsweep.spec.schema import Status
from memsweep.spec.search import objectives
from memsweep.spec.search.boundary import interval

SIZES = tuple(sorted({round(value) for value in logspace(1, 4, 30)}))
FITTING = {"stop.fit": 1.0, "optimizer.batch_size": 8}


def end(status=Status.FINISHED, fitted_step=None, **counts):
    return {"status": status.value, "fitted_step": fitted_step, **counts}


def play(rounds, outcome):
    """All rounds of a search whose trials end as `outcome` says; the rounds, and its last sentence."""
    found, ends = [], None
    try:
        while True:
            asked = next(rounds) if ends is None else rounds.send(ends)
            found.append(asked)
            ends = {trial.trial_id: outcome(trial) for trial in asked.trials}
    except StopIteration as stop:
        return found, stop.value


def asked_once(found):
    return {trial.trial_id: trial for asked in found for trial in asked.trials}


# Capacity.


def capacity_sweep(**search):
    axes = {"model.width": (8, 16), "data.examples": SIZES, "optimizer.learning_rate": (0.1, 1.0)}
    return Sweep("c", FITTING, axes=axes, seeds=range(5), search=CapacitySearch(**search))


def capacity_of(trial):
    """A seed's own, of which the smaller rate reaches half."""
    return trial.model.width * (20 + 3 * trial.seed) * (1.0 if trial.optimizer.learning_rate == 1.0 else 0.5)


def fits(trial):
    return end(fitted_step=5 if trial.data.examples <= capacity_of(trial) else None)


def largest(sweep, trials):
    """(width, seed) -> the largest size that any rate fits, of these trials."""
    found = {}
    for trial in trials:
        if fits(trial)["fitted_step"]:
            key = (trial.model.width, trial.seed)
            found[key] = max(found.get(key, 0), trial.data.examples)
    return found


def test_bisection_finds_what_the_whole_grid_tells():
    sweep = capacity_sweep()
    found, said = play(sweep.search.rounds(sweep), fits)
    asked = asked_once(found)
    assert largest(sweep, asked.values()) == largest(sweep, sweep.trials)
    assert len(asked) <= sweep.search.most(sweep) == len(sweep.trials) // 30 * 5
    assert len(found) == 5, "bisections advance together"
    by_seed = sorted(size for (width, _), size in largest(sweep, sweep.trials).items() if width == 8)
    assert f"model.width=8: {by_seed[2]};" in said  # three of five seeds reach their median


def test_share_is_of_seeds():
    for share, place in ((0.2, 4), (1.0, 0)):
        sweep = capacity_sweep(share=share)
        said = play(sweep.search.rounds(sweep), fits)[1]
        sizes = sorted(size for (width, _), size in largest(sweep, sweep.trials).items() if width == 16)
        assert f"model.width=16: {sizes[place]}" in said


def test_a_bracket_without_a_crossing_is_told():
    sweep = capacity_sweep()
    for outcome, words in (
        (end(fitted_step=1), "every size up to 10000: no crossing"),
        (end(), "not even the smallest size, 10"),
    ):
        said = play(sweep.search.rounds(sweep), lambda trial, outcome=outcome: outcome)[1]
        assert words in said


def test_trials_that_failed_count_as_not_fitted():
    sweep = capacity_sweep()
    assert "not even" in play(sweep.search.rounds(sweep), lambda trial: end(Status.FAILED))[1]


PLANE = {"model.width": (8, 16), "model.depth": (1, 2)}
TWO = {"fitted": "maximize", "wall_seconds": "minimize"}


def boundary(**search):
    return BoundarySearch("model.width", "model.depth", **search)


@pytest.mark.parametrize(
    ("base", "axes", "search", "words"),
    [
        (FITTING, {"model.width": (8, 16)}, CapacitySearch(), "needs an axis 'data.examples'"),
        (FITTING, {"data.examples": (100,)}, CapacitySearch(), "two sizes or more"),
        (FITTING, {"data.examples": (100, 10)}, CapacitySearch(), "smallest first"),
        ({}, {"data.examples": (100, 200)}, CapacitySearch(), "stop.fit is 0"),
        (FITTING, {"data.examples": (100, 200)}, CapacitySearch(share=0), "must lie in (0, 1]"),
        (FITTING, {"data.examples": (100, 200)}, CapacitySearch(tuned=("optimizer.rate",)), "no field"),
        ({}, {"model.width": (8, 16)}, boundary(), "'model.depth' of two values"),
        ({}, PLANE, boundary(objective="memorised_share"), "memorized_share"),
        ({}, PLANE, boundary(coarse=3), "power of two"),
        ({}, {}, BestSearch({}), "space is empty"),
        ({}, {}, BestSearch({"model.widht": (8, 16)}), "model.width"),
        ({}, {}, BestSearch({"model.width": Range(8, 8)}), "low < high"),
        ({}, {}, BestSearch({"model.width": Range(0, 8)}), "model.width"),
        ({}, {}, BestSearch({"model.family": Range(0, 1)}), "Range is of numbers"),
        ({}, {}, BestSearch({"model.width": Range(8, 16)}, sampler="grid"), "not a Range"),
        ({}, {}, BestSearch({"model.width": (8, 16)}, sampler="bayes"), "tpe, random, quasi_random, grid"),
        ({}, {}, BestSearch({"model.width": (8, 16)}, {"test_accuracy": "maximize"}), "never on test data"),
        ({}, {}, BestSearch({"model.width": (8, 16)}, {"accuracy": "maximize"}), "no table has 'accuracy'"),
        ({}, {}, BestSearch({"model.width": (8, 16)}, {"fitted": "most"}), "maximize or minimize"),
        ({}, {}, BestSearch({"model.width": (8, 16)}, TWO, halving=3), "give one objective"),
        ({}, {"model.depth": (1, 2)}, BestSearch({"model.width": (8, 16)}), "move it into the search's space"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_work_is_refused_with_advice(base, axes, search, words):
    with pytest.raises(SweepError) as refused:
        Sweep("s", base, axes=axes, search=search)
    assert words in str(refused.value)


# Boundary.


def boundary_sweep(**search):
    axes = {"data.noise_fraction": linspace(0, 1, 17), "regularization.weight_decay": linspace(0, 0.1, 17)}
    search = BoundarySearch("data.noise_fraction", "regularization.weight_decay", **search)
    return Sweep("b", {**FITTING, "data.noise_kind": "labels"}, axes=axes, seeds=range(5), search=search)


def above(trial):
    """Left of a curve."""
    return trial.data.noise_fraction**2 + (10 * trial.regularization.weight_decay) ** 2 < 0.5


def test_refinement_tells_the_side_of_every_point_of_the_grid_from_a_part_of_it():
    sweep = boundary_sweep()
    found, said = play(sweep.search.rounds(sweep), lambda trial: end(fitted_step=1 if above(trial) else None))
    asked = asked_once(found)
    assert len(asked) < 0.6 * len(sweep.trials)
    points = {(t.data.noise_fraction, t.regularization.weight_decay): above(t) for t in asked.values()}
    for trial in sweep.trials:  # the nearest point asked, in steps of the axes, is on the same side
        x, y = trial.data.noise_fraction, trial.regularization.weight_decay
        nearest = min(points, key=lambda p: abs(p[0] - x) + 10 * abs(p[1] - y))
        assert points[nearest] == above(trial)
    assert f"{len(points)} of 289 points were trained" in said and "0 undecided" in said


def test_a_plane_without_a_crossing_is_asked_coarsely_and_told():
    sweep = boundary_sweep()
    found, said = play(sweep.search.rounds(sweep), lambda trial: end(fitted_step=1))
    assert len(found) == 1 and len(asked_once(found)) == 25 * 5
    assert "no crossing was seen: all decided points are above" in said


def test_points_whose_interval_overlaps_the_level_are_looked_at_more_closely():
    sweep = boundary_sweep()
    found, _ = play(sweep.search.rounds(sweep), lambda trial: end(fitted_step=1 if trial.seed < 3 else None))
    assert len(asked_once(found)) == len(sweep.trials)


def test_intervals():
    assert interval([1.0], 0.9) == (-math.inf, math.inf) == interval([1.0, math.nan], 0.9)
    low, high = interval([0.0, 1.0, 1.0, 1.0], 0.9)
    assert 0 < low < 0.75 < high < 1
    low, high = interval([0.4, 0.5, 0.6], 0.9)
    assert low == pytest.approx(0.5 - 2.92 * 0.1 / math.sqrt(3), abs=1e-3) and high == pytest.approx(1 - low)


# The best.


def best_sweep(seeds=2, **search):
    space = {"optimizer.learning_rate": Range(1e-3, 1, log=True), "model.width": (8, 16, 32)}
    search = {"configurations": 32, "at_a_time": 8, **search}
    noise = {"data.noise_kind": "labels", "data.noise_fraction": 0.5}
    return Sweep("o", noise, seeds=range(seeds), search=BestSearch(search.pop("space", space), **search))


def accuracy(trial):
    """Best at 0.1 and 32."""
    right = 1000 - 200 * abs(math.log10(trial.optimizer.learning_rate) + 1) + trial.model.width + trial.seed
    return end(
        validation_correct_count=round(right),
        validation_count=2000,
        memorized_count=trial.model.width,
        label_changed_count=100,
    )


def run(sweep, outcome=accuracy, keep=lambda content: None):
    return play(best_rounds(sweep.search, sweep, keep), outcome)


def test_the_same_seed_proposes_the_same_and_another_does_not():
    first, again, other = (asked_once(run(best_sweep(seed=seed))[0]) for seed in (0, 0, 1))
    assert first == again and first.keys() != other.keys()


@pytest.mark.parametrize("sampler", ["tpe", "random", "quasi_random"])
def test_samplers_come_near_the_best(sampler):
    found, said = run(best_sweep(sampler=sampler))
    assert len(found) == 4 and {len(asked.trials) for asked in found} == {16}
    best = max(asked_once(found).values(), key=lambda t: accuracy(t)["validation_correct_count"])
    assert 0.02 < best.optimizer.learning_rate < 0.5
    assert said.startswith("Best of 32 complete configurations: validation_accuracy 0.5")


def test_a_grid_is_asked_once_each():
    space = {"optimizer.learning_rate": (0.1, 1.0), "model.width": (8, 16, 32)}
    found, said = run(best_sweep(space=space, sampler="grid", at_a_time=4))
    assert len(asked_once(found)) == 12 and "model.width=32" in said and "learning_rate=0.1" in said


def test_two_objectives_leave_a_front():
    _, said = run(best_sweep(objectives={"validation_accuracy": "maximize", "memorized_share": "minimize"}))
    assert said.startswith("Pareto front") and "model.width=8" in said and "model.width=32" in said


def test_halving_gives_up_all_but_the_best_of_each_rung():
    found, _ = run(best_sweep(seeds=1, configurations=9, at_a_time=9, halving=3))
    assert [(len(asked.trials), round(asked.share, 3), len(asked.given_up)) for asked in found] == [
        (9, 0.111, 0),
        (3, 0.333, 6),
        (1, 1.0, 2),
    ]
    ranked = sorted(found[0].trials, key=lambda t: -accuracy(t)["validation_correct_count"])
    assert set(found[1].trials) == set(ranked[:3]) and found[2].trials == (ranked[0],)


def test_a_configuration_that_was_given_up_stays_so_when_it_is_proposed_again():
    space = {"optimizer.learning_rate": (0.001, 0.1), "model.width": (8, 16)}
    sweep = best_sweep(seeds=1, space=space, configurations=24, at_a_time=4, halving=4, sampler="random")
    given_up = set()

    def outcome(trial):  # as the tables tell it: one that was given up never came further
        return {**accuracy(trial), "status": "pruned"} if trial.trial_id in given_up else accuracy(trial)

    rounds, asked = best_rounds(sweep.search, sweep, lambda content: None), 0
    found = next(rounds)
    try:
        while True:
            assert given_up.isdisjoint(trial.trial_id for trial in found.trials)
            given_up |= {trial.trial_id for trial in found.given_up}
            asked += 1
            found = rounds.send({trial.trial_id: outcome(trial) for trial in found.trials})
    except StopIteration as stop:
        assert asked > 2 and given_up and "learning_rate=0.1, model.width=16" in stop.value


def test_what_was_given_up_elsewhere_is_no_complete_configuration():
    sweep = best_sweep(configurations=8, at_a_time=8)
    said = run(sweep, lambda trial: {**accuracy(trial), "status": "pruned"})[1]
    assert "No configuration has a value" in said


def test_configurations_that_fail_or_are_no_valid_ones_are_told_so():
    space = {"optimizer.name": ("sgd", "adamw"), "optimizer.momentum": (0.0, 0.9)}  # momentum is none of adamw's

    def outcome(trial):
        return end(Status.DIVERGED) if trial.optimizer.momentum else accuracy(trial)

    found, said = run(best_sweep(space=space, sampler="grid"), outcome)
    assert 0 < len({t.setting_id for t in asked_once(found).values()}) < 4 and "Best of 2 complete" in said
    assert "No configuration has a value" in run(best_sweep(), lambda trial: end(Status.FAILED))[1]


def test_the_study_opens_in_optuna(tmp_path):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    kept = tmp_path / "journal"
    run(best_sweep(), keep=kept.write_bytes)
    study = optuna.load_study(study_name="o", storage=JournalStorage(JournalFileBackend(str(kept))))
    assert (
        len(study.trials) == 32 and study.best_value > 0.5 and set(study.best_params) == set(best_sweep().search.space)
    )
    optuna.visualization.plot_optimization_history(study)


# Objectives.


def test_objectives():
    row = {**accuracy(best_sweep().trials[0]), "wall_seconds": 2.0}
    assert objectives.value("memorized_share", row) == 0.32
    assert objectives.value("memorized_count/validation_count", row) == 0.016
    assert objectives.value("wall_seconds", row) == 2.0
    assert objectives.value("fitted", row) == 0.0 and objectives.value("fitted", {**row, "fitted_step": 3}) == 1.0
    assert math.isnan(objectives.value("wall_seconds", {**row, "status": "diverged"}))
    assert math.isnan(objectives.value("memorized_share", {**row, "label_changed_count": 0}))
