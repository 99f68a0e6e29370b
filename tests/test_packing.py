"""Packs hold every trial once, one program each, and travel as text."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.run.packing import WAVES, Pack, describe, make_packs, program_key
from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.groups import Model
from tests.cases import CASES, trial

WIDTHS = st.lists(st.sampled_from([(8, 1), (8, 2), (16, 1), (16, 3)]), max_size=30)


def grid(drawn, **fields):
    """A trial for each drawn width and number of epochs, told apart by seed."""
    return [
        trial(model__width=width, optimizer__epochs=epochs, seed=seed, **fields)
        for seed, (width, epochs) in enumerate(drawn)
    ]


def ids(trials):
    return [trial.trial_id for trial in trials]


@given(WIDTHS, st.integers(1, 4), st.integers(1, 7), st.sampled_from([0.0, 1.0]))
@settings(max_examples=100, deadline=None)
def test_packs_hold_every_trial_once_and_one_program_each(drawn, workers, slots, fit):
    trials = grid(drawn, stop__fit=fit)
    packs = make_packs(trials, workers, slots)
    assert sorted(ids(t for pack in packs for t in pack.trials)) == sorted(ids(trials))
    assert all(len({program_key(t) for t in pack.trials}) == 1 for pack in packs)
    assert all(1 <= pack.slots <= min(slots, len(pack.trials)) for pack in packs)
    assert all(len(pack.trials) <= slots * (WAVES if fit else 1) for pack in packs)


@given(WIDTHS, st.integers(1, 4), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_packs_of_a_program_are_shared_out_evenly(drawn, workers, slots):
    packs = make_packs(grid(drawn), workers, slots)
    sizes = {}
    for pack in packs:
        sizes.setdefault(program_key(pack.trials[0]), []).append(len(pack.trials))
    for members in sizes.values():
        assert len(members) % workers == 0 or set(members) == {1}
        assert max(members) - min(members) <= 1


@given(WIDTHS, st.integers(1, 4), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_long_packs_come_first_and_long_trials_first_in_them(drawn, workers, slots):
    packs = make_packs(grid(drawn), workers, slots)
    work = [sum(t.budget for t in pack.trials) for pack in packs]
    assert work == sorted(work, reverse=True)
    for pack in packs:
        budgets = [t.budget for t in pack.trials]
        assert budgets == sorted(budgets, reverse=True)


def test_trials_of_one_seed_of_inputs_share_packs_in_the_sweeps_order():
    noise = (0.1, 0.2, 0.3)
    trials = [trial(data__noise_fraction=f, seed=seed) for f in noise for seed in (4, 2)]
    packs = make_packs(trials, workers=1, slots=3)
    assert [[(t.seed, t.data.noise_fraction) for t in pack.trials] for pack in packs] == [
        [(seed, f) for f in noise] for seed in (4, 2)
    ]
    with_stream = [t.with_fields({"seeds.inputs": 7}) for t in trials]
    assert make_packs(with_stream, workers=1, slots=6)[0].trials == tuple(with_stream)


def test_nothing_makes_no_packs():
    assert make_packs([], workers=2, slots=4) == []


@pytest.mark.parametrize(
    "count, workers, slots, sizes",
    [
        (8, 2, 64, [4, 4]),  # both workers are busy
        (1, 2, 64, [1]),
        (10, 2, 4, [2, 3, 2, 3]),
        (3, 8, 64, [1, 1, 1]),
        (128, 1, 64, [64, 64]),
    ],
)
def test_sizes_of_packs(count, workers, slots, sizes):
    packs = make_packs([trial(seed=seed) for seed in range(count)], workers, slots)
    assert sorted(len(pack.trials) for pack in packs) == sorted(sizes)


def test_where_members_leave_early_a_pack_holds_some_in_reserve():
    (pack,) = make_packs([trial(seed=seed, stop__fit=1.0) for seed in range(8)], workers=1, slots=2)
    assert (len(pack.trials), pack.slots) == (8, 2)


SPLITTING = {
    "model__width": 9,
    "model__depth": 1,
    "model__activation": "tanh",
    "model__family": "my_lab.nets:MyNet",
    "data__task": "mnist5k",
    "optimizer__name": "adamw",
    "optimizer__batch_size": 10,
    "compute__dtype": "float64",
    "compute__matmul": "high",
    "regularization__penalty": "tests.cases:sharpness",
    "regularization__adversarial": 0.1,
    "optimizer__objective": "squared",
    "model__perturbation": 0.1,
}
SHARED = {
    "data__examples": 80,
    "data__validation_examples": 30,
    "data__test_examples": 10,
    "data__noise_fraction": 0.1,
    "data__noise_kind": "gaussian_inputs",
    "model__initialization": "he",
    "regularization__weight_decay": 0.1,
    "regularization__dropout": 0.1,
    "regularization__input_noise": 0.1,
    "optimizer__learning_rate": 0.01,
    "optimizer__momentum": 0.9,
    "optimizer__epochs": 2,
    "optimizer__schedule": "step:2:0.5",
    "optimizer__clip": 0.5,
    "stop__fit": 1.0,
    "stop__measure_steps": 3,
    "seed": 5,
    "probes": ("examples",),
    "metrics": ("my_lab:margin",),
}


@pytest.mark.parametrize("name", SPLITTING)
def test_what_changes_the_program_splits_packs(name):
    assert program_key(trial(**{name: SPLITTING[name]})) != program_key(trial())


@pytest.mark.parametrize("name", SHARED)
def test_what_members_may_differ_in_shares_a_pack(name):
    other = trial(**{name: SHARED[name]})
    assert other != trial() and program_key(other) == program_key(trial())


def test_the_number_of_classes_splits_packs():
    one, other = (trial("synthetic", data__classes=classes) for classes in (3, 4))
    assert program_key(one) != program_key(other)


def test_a_program_is_described_by_its_layers():
    assert describe(trial()) == "mlp 64-8-8-10 relu sgd batch=20 float32"
    assert describe(trial("linear")) == "mlp 64-10 relu sgd batch=20 float32"
    assert describe(trial("cnn")) == "cnn 144-(4)-3 relu sgd batch=20 float32"


# As text.


@pytest.mark.parametrize("case", CASES)
def test_a_pack_survives_its_text(case):
    pack = Pack(tuple(trial(case, seed=seed) for seed in (0, 1, 7)), slots=2)
    again = Pack.from_json(pack.to_json())
    assert ids(again.trials) == ids(pack.trials) and again.slots == 2 and again.pack_id == pack.pack_id
    assert [t.flat() for t in again.trials] == [t.flat() for t in pack.trials]
    assert [t.seed for t in again.trials] == [0, 1, 7]


def test_a_pack_of_different_members_survives_its_text():
    names = [name for name in SHARED if name not in ("data__noise_kind", "seed")]
    others = (trial(**{name: SHARED[name]}) for name in names)
    pack = Pack((trial(), trial(seed=3, seeds__init=0), *others), slots=64)
    assert [t.flat() for t in Pack.from_json(pack.to_json()).trials] == [t.flat() for t in pack.trials]


def test_a_trial_built_from_groups_keeps_its_name_on_the_way():
    """Else a worker would store it under another name, and it would be missing for ever."""
    mine = TrialConfig(model=Model(width=16.0), seed=2)
    assert ids(Pack.from_json(Pack((mine,), 1).to_json()).trials) == [mine.trial_id]


def test_a_packs_text_holds_each_value_once():
    pack = Pack(tuple(trial(seed=seed) for seed in range(50)), slots=50)
    values = json.loads(pack.to_json())
    assert Counter(len(change) for change in values["changes"]) == {0: 1, 6: 49}  # seed and its five streams


def test_pack_ids_name_trials_order_and_slots():
    a, b = trial(seed=0), trial(seed=1)
    packs = [Pack((a, b), 2), Pack((b, a), 2), Pack((a, b), 1), Pack((a,), 2)]
    assert len({pack.pack_id for pack in packs}) == 4
    assert Pack((trial(seed=0), b), 2).pack_id == packs[0].pack_id
    assert len(packs[0].pack_id) == 12
