"""What an axis may be given as, numbers that differ by a rounding alone, and grids made as they are asked for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.results.storage.store import Store
from memsweep.run.rounds.replay import Replay
from memsweep.spec.axes import MOST_VALUES, alike, linspace
from memsweep.spec.config import FIELDS, ConfigError, TrialConfig
from memsweep.spec.sweep import MOST_TRIALS, Sweep, SweepError
from tests.cases import ended
from tests.test_sweep import problem, problems

NOISE = {"data.noise_kind": "labels"}


# What an axis may be given as.


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.array([8, 16]), (8, 16)),
        (np.array(8), (8,)),
        (np.int64(8), (8,)),
        (range(8, 10), (8, 9)),
        (iter([8, 16]), (8, 16)),
        ({8: "a", 16: "b"}.keys(), (8, 16)),
        ({"a": 16, "b": 8}.values(), (16, 8)),
        ({64, 8, 16}, (8, 16, 64)),
        (frozenset([16, 8]), (8, 16)),
        ([8.0, np.float64(16)], (8, 16)),
    ],
)
def test_numbers_may_come_in_any_form(values, expected):
    sweep = Sweep("s", axes={"model.width": values})
    assert sweep.axes["model.width"] == expected
    assert all(type(value) is int for value in sweep.axes["model.width"])


def test_a_set_of_texts_has_one_order_in_every_process():
    assert Sweep("s", axes={"model.activation": {"tanh", "relu", "gelu"}}).axes["model.activation"] == (
        *("gelu", "relu", "tanh"),
    )


def test_zipped_axes_may_be_arrays():
    sweep = Sweep("s", axes={("model.width", "model.depth"): np.array([[8, 1], [16, 2]])})
    assert [(trial.model.width, trial.model.depth) for trial in sweep] == [(8, 1), (16, 2)]


@pytest.mark.parametrize("seeds", [np.arange(3, 6), (np.int64(3), 4.0, 5), {5, 4, 3}, range(3, 6)])
def test_seeds_may_come_in_any_form_and_begin_anywhere(seeds):
    assert [trial.seed for trial in Sweep("s", seeds=seeds)] == [3, 4, 5]
    assert all(type(seed) is int for seed in Sweep("s", seeds=seeds).seeds)


@pytest.mark.parametrize(
    "options, word",
    [
        ({"axes": {"model.width": True}}, "model.width = True: "),
        ({"axes": {"model.width": None}}, "model.width = None: "),
        ({"axes": {"model.width": [[8, 16]]}}, "model.width = [8, 16]: "),
        ({"axes": {"model.width": b"8"}}, "model.width = b'8': "),
        ({"axes": {"model.width": {}}}, "axis 'model.width' is empty"),
        ({"axes": {"model.width": itertools.count(1)}}, "axis 'model.width' has more than 1,000,000 values"),
        ({"axes": {("model.width", "model.depth"): [(8, 1, 2)]}}, "(8, 1, 2) must be 2 values"),
        ({"axes": {("model.width", "model.depth"): [8]}}, "8 must be 2 values"),
        ({"axes": {"optimizer.learning_rate": 1e400}}, "optimizer.learning_rate = inf: "),
        ({"axes": {"optimizer.learning_rate": math.nan}}, "optimizer.learning_rate = nan: "),
        ({"axes": [("model.width", 8)]}, "axes: must be a mapping of fields; found list."),
        ({"base": None}, "base: must be a mapping of fields; found NoneType."),
        ({"seeds": (-1,)}, "seed = -1: "),
        ({"seeds": (0.5,)}, "seed = 0.5: "),
        ({"seeds": itertools.count()}, "seeds has more than 1,000,000 values"),
    ],
)
def test_what_is_no_value_is_one_message(options, word):
    assert word in problem(Sweep, "s", **options)


# Numbers that differ by a rounding alone.


@pytest.mark.parametrize(
    "one, other, are_alike",
    [
        (0.3, 0.1 + 0.2, True),
        (1 / 3, 0.333333333333, True),
        (1e-300, 1e-300 * (1 + 1e-15), True),
        (0.3, 0.3 + 1e-10, False),
        (0.0, 1e-300, False),
        (1000.0, 1000.0001, False),
    ],
)
def test_numbers_are_alike_on_twelve_digits(one, other, are_alike):
    assert alike(one, other) == alike(other, one) == are_alike


def test_an_axis_names_both_of_two_numbers_that_are_one_but_for_rounding():
    axis = {"optimizer.learning_rate": [*np.arange(0, 0.5, 0.1), 0.3]}
    assert problem(Sweep, "s", axes=axis) == (
        "axis 'optimizer.learning_rate': 0.30000000000000004 and 0.3 are equal up to rounding; keep one of them."
    )
    zipped = {("optimizer.learning_rate", "model.width"): [(0.1 + 0.2, 8), (0.3, 16), (0.3, 8)]}
    assert "(0.30000000000000004, 8) and (0.3, 8)" in problem(Sweep, "s", axes=zipped)


def test_what_is_set_is_the_sweeps_own_number():
    sweep = Sweep(
        "s", {**NOISE, "optimizer.learning_rate": 0.1 + 0.2}, axes={"data.noise_fraction": np.arange(0, 0.5, 0.1)}
    )
    assert sweep.with_axes({"data.noise_fraction": (0.3, 0.25)}).axes["data.noise_fraction"] == (0.1 + 0.2, 0.25)
    assert sweep.with_axes({"optimizer.learning_rate": (0.3,)}).trials[0].optimizer.learning_rate == 0.1 + 0.2


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def keep(store, sweep):
    """As if the sweep had been launched."""
    store.write("wanted", [{"sweep": sweep.name, "trial_id": trial.trial_id} for trial in sweep])
    names = ("data.noise_fraction", "optimizer.learning_rate")
    rows = [(trial.trial_id, {FIELDS[name].column: trial.flat()[name] for name in names}) for trial in sweep]
    store.write("trials", [ended(trial_id, **columns) for trial_id, columns in rows])


def test_a_number_that_is_stored_but_for_rounding_is_not_trained_again(store):
    keep(
        store,
        Sweep("n", {**NOISE, "optimizer.learning_rate": 0.3}, axes={"data.noise_fraction": np.arange(0, 0.5, 0.1)}),
    )
    base = {**NOISE, "optimizer.learning_rate": 0.1 + 0.2}
    again = Replay(Sweep("n", base, axes={"data.noise_fraction": linspace(0, 0.4, 5)}), store)
    assert again.missing() == []
    assert again.remarks == [
        "n: data.noise_fraction = 0.3 is replaced by 0.30000000000000004, the value of its stored trials.",
        "n: optimizer.learning_rate = 0.30000000000000004 is replaced by 0.3, the value of its stored trials.",
    ]


def test_another_sweeps_numbers_stay_as_they_are(store):
    keep(store, Sweep("n", NOISE, axes={"data.noise_fraction": np.arange(0, 0.5, 0.1)}))
    other = Replay(Sweep("m", NOISE, axes={"data.noise_fraction": linspace(0, 0.4, 5)}), store)
    assert len(other.missing()) == 1 and other.remarks == []


def test_a_sweep_that_has_stored_both_numbers_keeps_both(store):
    """As older versions trained them: what is stored stays."""
    for values in (np.arange(0, 0.5, 0.1), linspace(0, 0.4, 5)):
        sweep = Sweep("n", NOISE, axes={"data.noise_fraction": values})
        keep(store, sweep)
        assert Replay(sweep, store).sweep is sweep


# Grids that are made as they are asked for.


def refuse(*_):
    raise AssertionError("a trial was made")


THIRTY_MILLION = {
    "optimizer.learning_rate": linspace(0.01, 1, 1000),
    "data.noise_fraction": linspace(0, 1, 300),
    "model.width": range(1, 101),
}


def test_a_grid_of_millions_is_checked_without_its_trials(monkeypatch):
    monkeypatch.setattr(TrialConfig, "replicated", refuse)
    sweep = Sweep("big", NOISE, axes=THIRTY_MILLION)
    assert len(sweep) == 30_000_000 > MOST_TRIALS
    wrong = {**THIRTY_MILLION, "model.width": range(100)}
    assert problem(Sweep, "big", NOISE, axes=wrong).startswith("model.width = 0: ")
    assert "data.noise_kind" in problem(Sweep, "big", axes=THIRTY_MILLION)
    doubled = {**THIRTY_MILLION, "model.width": [*range(1, 101), 7]}
    assert problem(Sweep, "big", NOISE, axes=doubled).startswith("duplicate trial: (")


def test_what_a_limit_shows_is_all_that_is_made(monkeypatch):
    made = []
    replicated = TrialConfig.replicated
    monkeypatch.setattr(TrialConfig, "replicated", lambda trial, seeds: made.append(seeds) or replicated(trial, seeds))
    replay = Replay(Sweep("big", NOISE, axes=THIRTY_MILLION, seeds=range(5)), None, limit=3)
    assert [trial.seed for trial in replay.missing()] == [0, 1, 2] and len(made) == 1  # one setting


def test_a_spacing_of_millions_is_refused_at_once():
    with pytest.raises(ValueError, match="30,000,000 values are more than 1,000,000"):
        linspace(0, 1, 30 * MOST_VALUES)


def test_trials_are_what_iterating_makes():
    sweep = Sweep("s", axes={"model.width": (8, 16), "seeds.init": (None, 7)}, seeds=(3, 5))
    assert tuple(sweep) == sweep.trials and len(sweep.trials) == len(sweep) == 8
    flat = [TrialConfig.of({**trial.flat(), "seed": trial.seed}) for trial in sweep]
    assert [t.trial_id for t in flat] == [t.trial_id for t in sweep] and {t.seed for t in sweep} == {3, 5}


RULED = {
    "data.task": ("digits", "gaussian", "copy", "my_lab:rings"),
    "data.noise_kind": ("none", "labels"),
    "data.noise_fraction": (0.0, 0.1, 0.9),
    "data.label_scheme": ("task", "random", "unique"),
    "data.validation_examples": (0, 1, 500),
    "data.test_examples": (0, 9),
    "data.input_dim": (0, 9),
    "data.classes": (0, 1, 2, 9),
    "data.sequence_length": (0, 1, 2, 20),
    "data.vocabulary": (0, 3, 9),
    "data.items": (0, 3),
    "model.family": ("mlp", "cnn", "recurrent", "attention", "my_lab:Net"),
    "model.cell": ("none", "gru"),
    "model.depth": (0, 1, 2, 3, 4, 5),
    "model.activation": ("relu", "tanh"),
    "model.initialization": ("default", "memorizer", "interpolating"),
    "optimizer.name": ("sgd", "adamw"),
    "optimizer.momentum": (0.0, 0.5, 0.9),
    "optimizer.clip": (0.0, 2.0),
    "optimizer.truncation": (0, 5),
    "optimizer.objective": ("cross_entropy", "squared", "my_lab:loss"),
    "regularization.dropout": (0.0, 0.5),
    "regularization.input_dropout": (0.0, 0.5),
    "regularization.input_noise": (0.0, 2.5),
    "regularization.hidden_noise": (0.0, 2.5),
    "regularization.label_smoothing": (0.0, 0.1),
    "regularization.adversarial": (0.0, 0.5, 1.0),
    "regularization.penalty": ("none", "my_lab:l1"),
    "regularization.penalty_strength": (0.0, 3.0),
    "stop.solve": ("never", "task"),
    "probes": ((), ("examples",), ("critical_samples",), ("jacobians",), ("positions",), ("loss_sensitivity",)),
    "probe_steps": ((), (3,)),
    "protocol": (None, 1),
    "model.width": (8, 9),
    "optimizer.learning_rate": (0.1, 0.2),
}


@given(st.lists(st.sampled_from(sorted(RULED)), min_size=1, max_size=5, unique=True), st.data())
@settings(max_examples=300, deadline=None)
def test_combinations_are_refused_where_one_trial_would_be(names, data):
    """The grid is checked by the kinds of values that rules tell apart, and that finds what each trial would."""
    base = {
        name: data.draw(st.sampled_from(RULED[name])) for name in data.draw(st.sets(st.sampled_from(sorted(RULED))))
    }
    axes = {name: data.draw(st.lists(st.sampled_from(RULED[name]), min_size=1, unique=True)) for name in names}
    wrong = 0
    for point in itertools.product(*axes.values()):
        try:
            TrialConfig.of({**base, **dict(zip(axes, point, strict=True))})
        except ConfigError:
            wrong += 1
    try:
        refused = ""
        Sweep("s", base, axes=axes)
    except SweepError as error:
        refused = [text for text in error.problems if not text.startswith("duplicate")]
    assert bool(refused) == bool(wrong)


# How a sweep shows itself.


def test_a_sweep_shows_its_axes():
    sweep = Sweep(
        "widths", NOISE, axes={"model.width": (8, 16), "data.noise_fraction": linspace(0, 1, 33)}, seeds=range(5)
    )
    assert repr(sweep) == (
        "Sweep('widths', 330 trials: model.width 8, 16; data.noise_fraction 0.0 ... 1.0 (33 values); "
        "seed 0, 1, 2, 3, 4)"
    )
    assert repr(Sweep("one")) == "Sweep('one', 1 trial: seed 0)"


def test_several_problems_stay_several():
    assert len(problems(Sweep, "s", axes={"model.width": (0, -1)})) == 2
