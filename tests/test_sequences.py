"""Sequence tasks: what they show and ask, what they refuse, when they are solved."""

import itertools
import math

import numpy as np
import pytest

from memsweep.data import sequences, tasks
from memsweep.data.sequences import NOT_ASKED
from memsweep.spec import options
from memsweep.spec.config import ConfigError, TrialConfig

LSTM = {"model.family": "recurrent", "model.cell": "lstm", "model.depth": 1}


def trial(**fields):
    return TrialConfig.of({**LSTM, **{name.replace("__", "."): value for name, value in fields.items()}})


def drawn(**fields):
    own = trial(data__examples=400, data__validation_examples=100, data__test_examples=50, **fields)
    assert tasks.check(own) == []
    return tasks.load(own), tasks.form(own)


def test_copy_shows_symbols_then_a_delimiter_and_asks_for_them():
    data, form = drawn(data__task="copy", data__sequence_length=12, data__items=3, data__vocabulary=4)
    assert np.array_equal(data.inputs[:, :3], data.targets) and set(data.targets.flat) == set(range(4))
    assert (data.inputs[:, 3:8] == 4).all() and (data.inputs[:, 8] == 5).all() and (data.inputs[:, 9:] == 4).all()
    assert (form.vocabulary, form.positions, form.outputs, form.targets) == (6, 3, 4, 3)


def test_adding_marks_one_number_in_each_half():
    data, form = drawn(data__task="adding", data__sequence_length=7)
    numbers, marks = data.inputs.reshape(400, 7, 2).transpose(2, 0, 1)
    assert (marks[:, :3].sum(1) == 1).all() and (marks[:, 3:].sum(1) == 1).all()
    assert marks.sum(0).min() > 0  # every place is marked in some example
    assert np.allclose((numbers * marks).sum(1), data.targets[:, 0], atol=1e-6)
    assert abs(np.square(data.targets - 1).mean() - 1 / 6) < 0.02  # of always answering 1
    assert (form.kind, form.targets) == ("values", 1)


def test_recall_asks_for_the_value_of_each_key_once():
    data, form = drawn(data__task="recall", data__sequence_length=32, data__items=4, data__vocabulary=40)
    keys, values = data.inputs[:, 0:8:2], data.inputs[:, 1:8:2]
    assert keys.min() >= 1 and keys.max() < 20 <= values.min() and values.max() < 40
    asked = data.targets != NOT_ASKED
    assert (asked.sum(1) == form.targets).all() and form.targets == 4
    for row in range(50):
        assert len(set(keys[row])) == 4 and len(set(values[row])) == 4
        value_of = dict(zip(keys[row], values[row], strict=True))
        places = np.flatnonzero(asked[row])
        assert (places % 2 == 0).all()
        assert [value_of[data.inputs[row, 8 + place]] for place in places] == data.targets[row, places].tolist()
        blank = np.delete(data.inputs[row, 8:], places)
        assert (blank == 0).all()
    # the power law prefers short gaps: weights g ** -0.99
    share = asked.mean(0)[::2]
    assert share[0] > 2 * share[-1] > 0


def test_strings_are_told_from_the_tokens_before():
    data, form = drawn(data__task="strings", data__sequence_length=6, data__vocabulary=5)
    assert (data.inputs[:, 0] == 5).all() and np.array_equal(data.inputs[:, 1:], data.targets[:, :-1])
    assert (form.vocabulary, form.outputs) == (6, 5) and set(data.targets.flat) == set(range(5))


def test_reconstruction_shows_a_vector_once_and_asks_for_it_at_the_end():
    data, form = drawn(data__task="reconstruction", data__sequence_length=4, data__input_dim=3)
    assert np.array_equal(data.inputs, data.targets) and data.inputs.shape == (400, 3)
    assert (form.steps, form.given_steps, form.features, form.outputs, form.targets) == (4, 1, 3, 3, 3)


def test_random_sequences_show_bits_at_the_first_step():
    fields = {"data__label_scheme": "random", "data__classes": 2, "data__input_dim": 9}
    data, form = drawn(data__task="random_sequences", data__sequence_length=5, **fields)
    assert set(data.inputs.flat) == {0, 1} and abs(data.labels.mean() - 0.5) < 0.1
    assert (form.steps, form.given_steps, form.features, form.kind) == (5, 1, 9, "label")


def test_labelled_data_is_read_in_equal_steps():
    _, form = drawn(data__task="digits", data__sequence_length=8)
    assert (form.steps, form.given_steps, form.features, form.outputs) == (8, 8, 8, 10)


@pytest.mark.parametrize("task", sequences.TARGET_TASKS)
def test_sets_are_nested_and_held_out_data_is_drawn_apart(task, texts):
    sizes = {"data__sequence_length": 24, **({"data__input_dim": 3} if task == "reconstruction" else {})}
    few, many = (
        tasks.load(trial(data__task=task, data__examples=n, data__validation_examples=20, data__vocabulary=v, **sizes))
        for n, v in ((30, _vocabulary(task)), (60, _vocabulary(task)))
    )
    assert np.array_equal(few.inputs, many.inputs[:30]) and np.array_equal(few.targets, many.targets[:30])
    assert np.array_equal(few.held_out_targets, many.held_out_targets)
    assert not np.array_equal(few.inputs[:20], few.held_out_inputs)
    assert few.fingerprint != many.fingerprint
    other = trial(data__task=task, data__examples=30, seed=1, data__vocabulary=_vocabulary(task), **sizes)
    assert not np.array_equal(tasks.load(other).targets, few.targets)


def _vocabulary(task):
    return 32 if task == "recall" else 0


def test_characters_are_windows_of_their_own_region(texts):
    data, form = drawn(data__task="characters", data__sequence_length=10)
    text = texts.read_text("utf-8")
    characters = sorted(set(text))
    assert form.vocabulary == form.outputs == len(characters)
    assert np.array_equal(data.inputs[:, 1:], data.targets[:, :-1])
    regions = {"inputs": (data.inputs, data.targets, text[: int(0.9 * len(text))])}
    regions["held out"] = (data.held_out_inputs, data.held_out_targets, text[int(0.9 * len(text)) :])
    for inputs, targets, region in regions.values():
        for row, last in zip(inputs.astype(int), targets[:, -1], strict=True):
            assert "".join(characters[token] for token in [*row, last]) in region


def test_characters_without_a_text_say_where_to_put_one(monkeypatch, tmp_path):
    own = trial(data__task="characters", data__sequence_length=10)
    monkeypatch.delenv("MEMSWEEP_DATA", raising=False)
    assert "MEMSWEEP_DATA is not set" in tasks.check(own)[0]
    monkeypatch.setenv("MEMSWEEP_DATA", str(tmp_path))
    assert "make data" in tasks.check(own)[0] and "has 0" in tasks.check(own)[0]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"data__task": "copy", "data__sequence_length": 20}, "takes 21 steps or more"),
        ({"data__task": "copy", "data__sequence_length": 21, "data__vocabulary": 1}, "needs 2 symbols"),
        ({"data__task": "adding", "data__sequence_length": 1}, "2 or more steps"),
        ({"data__task": "recall", "data__sequence_length": 14}, "4 steps a pair"),
        ({"data__task": "recall", "data__sequence_length": 17}, "must be even"),
        ({"data__task": "recall", "data__sequence_length": 32, "data__vocabulary": 32}, "more than 32"),
        ({"data__task": "strings", "data__vocabulary": 4}, "1 token or more"),
        ({"data__task": "strings", "data__sequence_length": 4, "data__vocabulary": 1}, "2 tokens or more"),
        ({"data__task": "strings", "data__sequence_length": 4, "data__items": 1}, "set it to 0"),
        ({"data__task": "reconstruction", "data__sequence_length": 4}, "set data.input_dim"),
        ({"data__task": "composition"}, "1 permutation or more"),
        ({"data__task": "composition", "data__sequence_length": 4, "data__items": 6}, "2 to 5 items"),
        ({"data__task": "composition", "data__sequence_length": 4, "data__vocabulary": 6}, "set it to 0"),
        ({"data__task": "digits", "data__sequence_length": 7}, "use a divisor"),
        ({"data__task": "digits"}, "1 step or more"),
    ],
)
def test_what_a_task_cannot_do_is_refused_with_its_rule(fields, rule):
    problems = tasks.check(trial(**fields))
    assert len(problems) == 1 and rule in problems[0], problems


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"model.cell": "lstn"}, "Did you mean 'lstm'?"),
        ({"model.cell": "none"}, "needs a cell; set model.cell to one of rnn"),
        ({"model.cell": "pru_b+plus_state"}, "must be one of"),
        ({"model.family": "mlp"}, "model.family = 'mlp', model.cell = 'lstm'"),
        ({"model.family": "mlp", "model.cell": "none"}, "set model.family to recurrent, attention or transformer"),
        ({"data.noise_kind": "labels"}, "has targets, no labels"),
        ({"regularization.input_noise": 0.1}, "inputs of the task are tokens; set regularization.input_noise to 0"),
        (
            {"data.task": "adding", "regularization.label_smoothing": 0.1},
            "targets of the task are numbers; set regularization.label_smoothing to 0",
        ),
        ({"data.task": "digits", "data.vocabulary": 4}, "set data.vocabulary to 0"),
        ({"model.depth": 0}, "at least one layer"),
        ({"model.activation": "tanh"}, "leave model.activation at relu"),
        ({"model.initialization": "he"}, "leave model.initialization at default"),
        ({"data.task": "strings", "stop.solve": "task"}, "has no threshold"),
        ({"stop.solve": "task", "data.validation_examples": 0}, "validation data"),
        ({"data.task": "digits", "probes": ("positions",)}, "positions need a task with several answers"),
        ({"data.task": "recall", "probes": ("readouts",)}, "need a recurrent network and the task copy"),
        (
            {"model.family": "attention", "model.cell": "none", "probes": ("jacobians",)},
            "jacobians need a recurrent network",
        ),
        ({"data.validation_examples": 0, "probes": ("jacobians",)}, "validation data"),
        (
            {"model.family": "attention", "model.cell": "none", "optimizer.truncation": 3},
            "only gradients of the family recurrent can be truncated",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(fields, rule):
    with pytest.raises(ConfigError) as caught:
        TrialConfig.of({**LSTM, "data.task": "copy", "data.sequence_length": 21, **fields})
    assert rule in str(caught.value)


def test_solved_is_the_tasks_own_threshold():
    copy, adding = trial(data__task="copy", data__sequence_length=21).data, trial(data__task="adding").data
    counts = {"target_correct_count": 989, "target_count": 1000}
    assert not sequences.is_solved(copy, counts)
    assert sequences.is_solved(copy, {**counts, "target_correct_count": 990})
    errors = {"target_correct_count": 0, "target_count": 1000, "squared_error_sum": 10.0}
    assert not sequences.is_solved(adding, errors)
    assert sequences.is_solved(adding, {**errors, "squared_error_sum": math.nextafter(10.0, 0)})
    assert not sequences.is_solved(trial().data, {})


def test_names_of_tasks_are_those_of_the_configuration():
    assert set(sequences.TARGET_TASKS) == set(options.TARGET_TASKS)
    assert {name for name, task in sequences.TARGET_TASKS.items() if task.solved} == set(options.SOLVABLE_TASKS)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_composition_asks_what_all_permutations_so_far_make(count):
    permutations = list(itertools.permutations(range(count)))
    fields = {"data__task": "composition", "data__items": count, "data__sequence_length": 6}
    data = tasks.load(trial(data__examples=20, data__validation_examples=10, **fields))
    for inputs, targets in ((data.inputs, data.targets), (data.held_out_inputs, data.held_out_targets)):
        for tokens, answers in zip(inputs.astype(int), targets, strict=True):
            places = list(range(count))
            for token, answer in zip(tokens, answers, strict=True):
                places = [permutations[token][place] for place in places]
                assert permutations[answer] == tuple(places)
    assert not (data.inputs[:10] == data.held_out_inputs).all()
