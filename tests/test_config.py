"""A trial is its content: what names it, what is refused, and when it is measured."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsweep.spec.config import FIELDS, RECORDED, ConfigError, TrialConfig, imported, problems
from memsweep.spec.fields.groups import Data, Model, Optimizer, Regularization, Seeds
from memsweep.spec.options import ACTIVATIONS, PROTOCOL, STREAMS
from memsweep.spec.sweep_files import load_sweep

RANDOM_LABELS = {"data.label_scheme": "random", "data.classes": 3}
NOISY = {"data.noise_kind": "labels", "data.noise_fraction": 0.5}
OWN_TASK = {"data.task": "my_lab.tasks:words"}

COPY = {"data.task": "copy", "data.sequence_length": 21, "model.family": "recurrent", "model.cell": "lstm"}

OTHER = {
    "data.task": ("mnist", {}),
    "data.examples": (999, {}),
    "data.validation_examples": (499, {}),
    "data.test_examples": (1, {}),
    "data.input_dim": (64, {}),
    "data.label_scheme": ("random", {}),
    "data.noise_kind": ("wrong_labels", NOISY),
    "data.noise_fraction": (0.25, NOISY),
    "data.noise_matrix": ((0.9, 0.1, 0.0, 1.0), {"data.noise_kind": "confusion", "data.noise_matrix": (1.0,)}),
    "data.noise_covariance": ((2.0,), {"data.noise_kind": "added_noise", "data.noise_covariance": (1.0,)}),
    "data.noise_label": ("human", {"data.task": "file:mine.csv"}),
    "data.noise_examples": ((0,), NOISY),
    "data.repeats": ((2,), {}),
    "data.subset": ((1, 0), {}),
    "data.subset_fraction": (0.5, {}),
    "data.sequence_length": (7, OWN_TASK),
    "data.classes": (4, RANDOM_LABELS),
    "model.family": ("my_lab.nets:MyNet", {}),
    "model.width": (33, {}),
    "model.depth": (0, {}),
    "model.heads": (2, {"model.family": "transformer", "data.sequence_length": 8}),
    "model.norm": ("layer", {}),
    "model.frozen_layers": (1, {}),
    "model.parametrization": ("mup", {}),
    "model.base_width": (8, {"model.parametrization": "mup"}),
    "model.activation": ("tanh", {}),
    "model.initialization": ("he", {}),
    "regularization.dropout": (0.5, {}),
    "regularization.input_dropout": (0.5, {}),
    "regularization.input_noise": (0.5, {}),
    "regularization.hidden_noise": (0.5, {}),
    "regularization.weight_decay": (1e-9, {}),
    "regularization.label_smoothing": (0.1, {}),
    "optimizer.name": ("adamw", {}),
    "optimizer.learning_rate": (0.2, {}),
    "optimizer.momentum": (0.9, {}),
    "optimizer.betas": ((0.9, 0.99), {}),
    "optimizer.alpha": (0.9, {}),
    "optimizer.radius": (0.1, {}),
    "optimizer.clip": (1.0, {}),
    "optimizer.batch_size": (50, {}),
    "optimizer.epochs": (31, {}),
    "optimizer.schedule": ("step:15:0.5", {}),
    "optimizer.averaging": (0.9, {}),
    "compute.dtype": ("float64", {}),
    "stop.fit": (1.0, {}),
    "stop.steps": (5, {}),
    "stop.measure_steps": (5, {}),
    "regularization.adversarial": (0.5, {}),
    "regularization.penalty": ("my_lab.penalties:l1", {}),
    "regularization.penalty_strength": (0.5, {"regularization.penalty": "my_lab.penalties:l1"}),
    "compute.matmul": ("high", {}),
    "compute.autocast": ("bfloat16", {}),
    "optimizer.objective": ("squared", {}),
    "model.perturbation": (0.1, {}),
    "model.cell": ("gru", {"model.family": "recurrent", "model.cell": "lstm", "data.sequence_length": 8}),
    "model.gate_bias": (2.0, {}),
    "data.vocabulary": (9, COPY),
    "data.items": (3, COPY),
    "optimizer.truncation": (4, COPY),
    "stop.solve": ("task", COPY),
    "data.label": ("y", {"data.task": "file:a.csv"}),
    "data.split": ("part", {"data.task": "file:a.csv"}),
    "data.content": ("0123456789abcdef", {"data.task": "file:a.csv"}),
    "members": (("own.x",), {"own.x": 1}),
    "protocol": (PROTOCOL, {}),
    **{f"seeds.{stream}": (5, {}) for stream in STREAMS},
}
"""Field -> another allowed value, and the fields that it needs beside it."""


def of(**values):
    return TrialConfig.of({name.replace("__", "."): value for name, value in values.items()})


def problems_of(values):
    with pytest.raises(ConfigError) as caught:
        TrialConfig.of(values)
    return caught.value.problems


# What names a trial.


def test_every_field_has_another_value_here():
    assert OTHER.keys() | {"seed", *RECORDED} == FIELDS.keys()


@pytest.mark.parametrize("name", OTHER)
def test_trial_id_depends_on_every_field(name):
    value, beside = OTHER[name]
    assert TrialConfig.of({**beside, name: value}).trial_id != TrialConfig.of(beside).trial_id


@pytest.mark.parametrize("name", OTHER)
def test_setting_id_depends_on_every_field_but_seeds(name):
    value, beside = OTHER[name]
    same = TrialConfig.of({**beside, name: value}).setting_id == TrialConfig.of(beside).setting_id
    assert same == name.startswith("seeds.")


def test_fields_that_came_later_leave_old_names_alone():
    """The names that tables hold since before these fields; they must never change."""
    assert load_sweep("smoke").trials[0].trial_id == "4d1eaeac9dfdeeff"
    assert load_sweep("generalization").trials[-1].setting_id == "06dd1a2ed47d3556"


def test_trial_id_ignores_probes():
    assert of(probes=("examples",)).trial_id == of().trial_id
    assert of(probes=("examples",)).setting_id == of().setting_id


def test_seed_acts_through_the_streams_alone():
    assert of(seed=3).trial_id == of(**{f"seeds__{stream}": 3 for stream in STREAMS}).trial_id
    assert of(seed=3).trial_id != of(seed=4).trial_id
    every = {f"seeds__{stream}": 7 for stream in STREAMS}
    assert of(seed=3, **every).trial_id == of(seed=4, **every).trial_id


def test_a_stream_follows_seed_unless_set():
    trial = of(seed=3, seeds__init=0)
    assert [trial.stream_seed(stream) for stream in STREAMS] == [3, 3, 3, 0, 3]


def test_setting_id_ignores_seeds():
    assert of(seed=1, seeds__order=2).setting_id == of().setting_id


@pytest.mark.parametrize(
    "fields, trial_id, setting_id",
    [
        ({}, "1cb3114809f0ddbf", "2e15f4f48e489177"),
        (
            {
                "data.examples": 90,
                **NOISY,
                "model.width": 8,
                "optimizer.name": "adamw",
                "optimizer.betas": (0.8, 0.99),
                "optimizer.learning_rate": 1e-3,
                "stop.fit": 1.0,
                "seed": 2,
                "seeds.init": 5,
            },
            "ebbae804af49a6d4",
            "da516588839b52b7",
        ),
    ],
)
def test_names_of_protocol_1_stay(fields, trial_id, setting_id):
    """When this fails, stored results are no longer found: raise PROTOCOL on purpose, or find the accident."""
    trial = TrialConfig.of(fields)
    assert (trial.trial_id, trial.setting_id) == (trial_id, setting_id)


def test_trial_id_is_the_same_in_every_process():
    code = "from memsweep.spec.config import TrialConfig as T; print(T.of({'seed': 2, 'model.width': 8}).trial_id)"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == of(seed=2, model__width=8).trial_id


def test_order_of_fields_is_no_part_of_a_trial():
    fields = {"model.width": 8, "data.examples": 90, "seed": 1}
    backwards = dict(reversed(fields.items()))
    assert TrialConfig.of(fields).trial_id == TrialConfig.of(backwards).trial_id


@pytest.mark.parametrize(
    "name, spellings",
    [
        ("regularization.dropout", (0, 0.0, -0.0, np.float64(0), np.int64(0))),
        ("optimizer.learning_rate", (1, 1.0, np.float32(1))),
        ("model.width", (16, 16.0, np.int64(16), np.float64(16))),
        ("optimizer.betas", ((0, 0.5), [0.0, 0.5], (-0.0, 0.5), np.array([0, 0.5]))),
    ],
)
def test_spellings_of_a_number_are_one_trial(name, spellings):
    assert len({TrialConfig.of({name: value}).trial_id for value in spellings}) == 1
    assert len({json.dumps(TrialConfig.of({name: value}).flat()) for value in spellings}) == 1


@pytest.mark.parametrize(
    "name, group",
    [
        ("model", Model(width=32.0)),
        ("model", Model(depth=np.int64(2))),
        ("regularization", Regularization(dropout=0)),
        ("regularization", Regularization(weight_decay=-0.0)),
        ("optimizer", Optimizer(betas=[0.9, 0.999])),
        ("data", Data(noise_fraction=np.float64(0))),
        ("seeds", Seeds(**dict.fromkeys(STREAMS, 0.0))),
        ("probes", []),
    ],
    ids=["float", "numpy int", "int", "negative zero", "list", "numpy float", "seeds", "probes"],
)
def test_groups_are_spelled_as_freely_as_fields(name, group):
    trial = TrialConfig(**{name: group})
    assert trial.trial_id == TrialConfig().trial_id
    assert trial.setting_id == TrialConfig().setting_id
    assert json.dumps(trial.flat()) == json.dumps(TrialConfig().flat())


def test_groups_and_dotted_fields_name_the_same_trial():
    assert TrialConfig(model=Model(width=64), seed=1).trial_id == of(model__width=64, seed=1).trial_id


# From fields to text and back, as a pack travels.


def some(spec):
    """Allowed values of a field that stands alone."""
    free = {
        "model.width": st.integers(1, 1000) | st.floats(1, 100).map(round),
        "optimizer.learning_rate": st.floats(0, 1e6),
        "regularization.dropout": st.floats(0, 1, exclude_max=True),
        "optimizer.betas": st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
        "seed": st.integers(0, 2**62),
        "seeds.noise": st.none() | st.integers(0, 2**62),
        "probes": st.sampled_from([(), ("examples",)]),
        "model.activation": st.sampled_from(ACTIVATIONS),
    }
    return free[spec]


FREE = ("model.width", "optimizer.learning_rate", "regularization.dropout", "optimizer.betas", "seed", "seeds.noise")
TRIALS = st.fixed_dictionaries({}, optional={name: some(name) for name in (*FREE, "probes", "model.activation")})


@given(TRIALS)
@settings(max_examples=60, deadline=None)
def test_flat_fields_survive_json(values):
    trial = TrialConfig.of(values)
    text = json.dumps({**trial.flat(), "seed": trial.seed}, allow_nan=False)
    again = TrialConfig.of(json.loads(text))
    assert (again.trial_id, again.setting_id, again.seed) == (trial.trial_id, trial.setting_id, trial.seed)
    assert again.flat() == trial.flat()


@given(TRIALS, TRIALS)
@settings(max_examples=60, deadline=None)
def test_with_fields_leads_from_one_trial_to_another(one, other):
    first, second = TrialConfig.of(one), TrialConfig.of(other)
    changes = {name: value for name, value in second.flat().items() if value != first.flat()[name]}
    moved = TrialConfig.of({**first.flat()}).with_fields(json.loads(json.dumps(changes)))
    assert moved.flat() == second.flat()


def test_flat_names_every_field_in_order_with_seeds_resolved():
    flat = of(seed=3).flat()
    assert list(flat) == list(FIELDS)
    assert [flat[f"seeds.{stream}"] for stream in STREAMS] == [3] * len(STREAMS)


def test_with_fields_leaves_the_first_as_it_was():
    trial = of(model__width=8)
    assert trial.with_fields({"model.width": 16, "seed": 2}).flat() == {
        **of(seed=2).flat(),
        "model.width": 16,
    }
    assert trial.model.width == 8


def test_of_takes_other_fields_from_a_base():
    base = of(model__width=8, seed=4)
    assert TrialConfig.of({"model.depth": 1}, base).flat() == of(model__width=8, seed=4, model__depth=1).flat()


# What is refused.


def test_all_problems_are_told_at_once_with_nearest_names():
    found = problems_of(
        {"model.witdh": 3, "data.noise_fraction": 1.2, "optimizer.name": "sgdd", "model.depth": 1.5, "nothing.like": 1}
    )
    assert len(found) == 5
    assert found[0] == "'model.witdh' is no field of a trial. Did you mean 'model.width'?"
    assert found[1].startswith("data.noise_fraction = 1.2: ") and "must lie in [0, 1]" in found[1]
    assert "Did you mean 'sgd'?" in found[2]
    assert "model.depth = 1.5: " in found[3] and "whole number" in found[3]
    assert "Groups: data, model, " in found[4]


def test_problems_of_fields_and_between_fields_are_one_list():
    found = problems_of({"model.depth": -1, "data.noise_fraction": 0.5, "optimizer.name": "adamw", "zzz": 1})
    assert [problem.partition(":")[0] for problem in found] == [
        "model.depth = -1",
        "'zzz' is no field of a trial. Groups",
        "data.noise_fraction = 0.5, data.noise_kind = 'none'",
    ]
    assert problems({"model.depth": 1}) == [] and problems({"data.noise_fraction": 0.5}, of(seed=1)) == list(found[2:])


@pytest.mark.parametrize("value", ["half", 1.5, None])
def test_rules_that_read_a_wrong_field_are_skipped(value):
    """The fraction itself is the problem, not that it needs a kind of noise."""
    assert len(problems_of({"data.noise_fraction": value})) == 1
    with pytest.raises(ConfigError, match=r"^data\.noise_fraction = "):
        TrialConfig(data=Data(noise_fraction=value))


def test_groups_tell_all_problems_at_once():
    with pytest.raises(ConfigError) as caught:
        TrialConfig(model=Model(width=0, activation="rely"), seed=-1)
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "model.width",
        "model.activation",
        "seed",
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, np.True_, "1", None, [1], {}, 1j, b"1"])
@pytest.mark.parametrize("name", ["model.width", "optimizer.learning_rate", "seed"])
def test_what_is_no_number_is_refused(name, value):
    (problem,) = problems_of({name: value})
    assert problem.startswith(f"{name} = ")


@pytest.mark.parametrize("value", [2**63, 10**400], ids=["2**63", "10**400"])
def test_whole_numbers_that_no_table_holds_are_refused(value):
    whole = [name for name, spec in FIELDS.items() if spec.kind is int]
    found = problems_of({name: value for name in whole})
    assert [problem.partition(" ")[0] for problem in found] == whole


@pytest.mark.parametrize(
    "name, low, high, high_is_allowed",
    [
        ("data.noise_fraction", 0, 1, True),
        ("stop.fit", 0, 1, True),
        ("regularization.dropout", 0, 1, False),
        ("optimizer.momentum", 0, 1, False),
    ],
)
def test_a_range_has_its_ends(name, low, high, high_is_allowed):
    assert [FIELDS[name].problem(value) is None for value in (low, high)] == [True, high_is_allowed]
    assert FIELDS[name].problem(low - 1e-9) and FIELDS[name].problem(high + 1e-9)


@pytest.mark.parametrize("value", ["0.9,0.99", 0.9, None, (0.9,), (0.9, 1.0), (0.9, "x"), (0.9, math.nan), (True, 0.5)])
def test_wrong_betas_are_refused(value):
    (problem,) = problems_of({"optimizer.betas": value})
    assert problem.startswith("optimizer.betas = ")


@pytest.mark.parametrize("value", [1, None, True, ["relu"], b"relu", "Relu", "relu ", ""])
def test_what_is_no_known_text_is_refused(value):
    (problem,) = problems_of({"model.activation": value})
    assert problem.startswith("model.activation = ")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "step",
        "step:0:0.5",
        "step:1",
        "step:1:-1",
        "step:1:x",
        "step:1:0.5\n",
        "cosin",
        "warmup:1",
        "warmup:+cosine",
        "warmup:1+one_cycle",
    ],
)
def test_wrong_schedules_are_refused(value):
    with pytest.raises(ConfigError, match=r"optimizer\.schedule"):
        TrialConfig.of({"optimizer.schedule": value})


@pytest.mark.parametrize(
    "values, word",
    [
        ({"data.noise_fraction": 0.5}, "data.noise_kind"),
        ({"data.task": "gaussian"}, "data.label_scheme"),
        ({"data.task": "gaussian", **RANDOM_LABELS}, "data.input_dim"),
        ({"data.task": "bits", "data.input_dim": 5, "data.label_scheme": "random"}, "data.classes"),
        ({"data.classes": 3}, "data.classes"),
        ({"data.label_scheme": "unique", "data.classes": 3, "data.validation_examples": 0}, "data.classes"),
        ({"data.label_scheme": "unique"}, "data.validation_examples"),
        ({"data.sequence_length": 3}, "data.sequence_length"),
        ({"optimizer.name": "adamw", "optimizer.momentum": 0.9}, "optimizer.betas"),
        ({"optimizer.name": "adam", "optimizer.momentum": 0.9}, "optimizer.betas"),
        ({"optimizer.name": "nesterov"}, "optimizer.momentum"),
        ({"protocol": PROTOCOL + 1}, "protocol"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(values, word):
    assert any(word in problem for problem in problems_of(values))


def test_configurations_are_frozen():
    with pytest.raises(AttributeError):
        TrialConfig().model.width = 3


def test_import_paths_are_names_of_families_and_tasks():
    assert of(model__family="my_lab.nets:MyNet").model.family == "my_lab.nets:MyNet"
    for path in ("my lab:Net", "my_lab.nets", ":Net", "my_lab:", "my_lab:Net\n", "os:system()"):
        with pytest.raises(ConfigError):
            of(model__family=path)


@pytest.mark.parametrize("path", ["no_such_lab:Net", "math:no_such_name"])
def test_what_cannot_be_imported_is_named(path):
    with pytest.raises(ConfigError, match=path):
        imported(path)


def test_what_the_program_itself_defines_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="and name it my_lab:Net"):
        imported("__main__:Net")


def test_what_can_be_imported_is_found():
    assert imported("math:sqrt") is math.sqrt


# When it is measured.


def measurements(trial):
    steps = [0]
    while steps[-1] < trial.budget:
        steps.append(trial.next_measurement(steps[-1]))
        assert steps[-1] > steps[-2]
    return steps[1:]


@pytest.mark.parametrize(
    "examples, batch, epochs, ends",
    [
        (100, 20, 3, [5, 10, 15]),
        (90, 20, 4, [5, 9, 14, 18]),  # a batch crosses the seam of two epochs
        (90, 20, 1, [5]),
        (10, 100, 30, [1, 2, 3]),  # a batch of ten epochs
        (1, 100, 1, [1]),
        (7, 7, 2, [1, 2]),
        (8, 7, 2, [2, 3]),
    ],
)
def test_measured_at_the_end_of_each_epoch(examples, batch, epochs, ends):
    trial = of(data__examples=examples, optimizer__batch_size=batch, optimizer__epochs=epochs)
    assert trial.budget == ends[-1]
    assert measurements(trial) == ends


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 6), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_every_end_of_an_epoch_within_the_budget_is_measured(examples, batch, epochs, steps):
    trial = of(data__examples=examples, optimizer__batch_size=batch, optimizer__epochs=epochs, stop__steps=steps)
    assert trial.budget == (steps or math.ceil(epochs * examples / batch))
    ends = {math.ceil(epoch * examples / batch) for epoch in range(1, trial.budget * batch // examples + 2)}
    assert measurements(trial) == sorted({*(end for end in ends if end < trial.budget), trial.budget})


def test_stop_steps_replaces_epochs():
    assert of(stop__steps=7).budget == 7
    assert measurements(of(data__examples=90, optimizer__batch_size=20, stop__steps=7)) == [5, 7]


@pytest.mark.parametrize("every, expected", [(4, [4, 8, 10]), (5, [5, 10]), (100, [10]), (1, list(range(1, 11)))])
def test_measured_every_so_many_steps(every, expected):
    assert measurements(of(stop__steps=10, stop__measure_steps=every)) == expected


def test_the_next_measurement_is_the_same_from_every_step_before_it():
    trial = of(data__examples=90, optimizer__batch_size=20, optimizer__epochs=4)
    assert [trial.next_measurement(step) for step in range(18)] == [5] * 5 + [9] * 4 + [14] * 5 + [18] * 4


@pytest.mark.parametrize("name", ["optimizer.learning_rate", "model.width", "seed"])
def test_a_number_that_fits_no_table_is_refused_by_its_size(name):
    """Not by a range that it lies in."""
    with pytest.raises(ConfigError, match=r"must be smaller than 2\*\*63\.$"):
        TrialConfig.of({name: 2**63})
