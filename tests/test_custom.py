"""A task of the user's own: its labels become classes, what is unusual is remarked, and what changes is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memsweep.data import tasks
from memsweep.data.tasks import DataError
from memsweep.engine.door import problems
from memsweep.engine.nn import models
from memsweep.engine.train import plain, trainer
from memsweep.engine.train.comparison import alone
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack, program_key
from memsweep.run.policy import protocols
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import TrialConfig
from memsweep.spec.sweep import Sweep, SweepError
from tests.cases import ended

FROM_ZERO_ID, FROM_ONE_ID = "b93e3d782cd6dd2b", "0f2d71a4bd016fcc"
"""Names that trials of these two tasks had while there was one protocol."""
INPUTS = np.random.default_rng(1).normal(size=(200, 3))
NAMES = np.array(["cat", "dog", "cow", "hen"])[np.arange(200) % 4]
PIXELS = np.random.default_rng(2).random((200, 14, 12, 3))
TARGETS = INPUTS @ [[1.0, 0.5], [0.0, -1.0], [2.0, 0.0]]
MODULE = """
import numpy as np

INPUTS = np.random.default_rng(1).normal(size=(200, 3))
CLASSES = np.arange(200) % 4

def from_zero(config, rng): return INPUTS, CLASSES
def from_one(config, rng): return INPUTS, CLASSES + 1
def with_gaps(config, rng): return INPUTS, np.array([2, 3, 10**9, 5])[CLASSES]
def negative(config, rng): return INPUTS, CLASSES - 2
def booleans(config, rng): return INPUTS, CLASSES % 2 == 1
def unsigned(config, rng): return INPUTS, np.array([0, 7, 2**64 - 1, 9], np.uint64)[CLASSES]
def one_value(config, rng): return INPUTS, np.full(200, 3)
def rare(config, rng): return INPUTS, np.where(np.arange(200) == 7, 9, CLASSES)
def identifiers(config, rng): return INPUTS, np.arange(200)

NAMES = np.array(["cat", "dog", "cow", "hen"])[CLASSES]
PIXELS = np.random.default_rng(2).random((200, 14, 12, 3))
TARGETS = INPUTS @ [[1.0, 0.5], [0.0, -1.0], [2.0, 0.0]]
def floats(config, rng): return INPUTS, CLASSES.astype(float)
def names(config, rng): return INPUTS, NAMES
def pictures(config, rng): return PIXELS, CLASSES
def real(config, rng): return INPUTS, TARGETS
def real_column(config, rng): return INPUTS, TARGETS[:, 0]
def flat(config, rng): return INPUTS[:, 0], CLASSES
def splits(config, rng):
    rows = {"test": slice(0, 60), "train": slice(60, 160), "val": slice(160, 200)}
    return {part: (INPUTS[at], NAMES[at]) for part, at in rows.items()}
def real_splits(config, rng): return {"train": (INPUTS[60:], TARGETS[60:]), "test": (INPUTS[:60], TARGETS[:60])}
def objects(config, rng): return INPUTS, NAMES.astype(object)
def without_train(config, rng): return {"test": (INPUTS, CLASSES), "other": (INPUTS, CLASSES)}
def four(config, rng): return INPUTS, CLASSES, np.ones(200), 0
def below_zero(config, rng): return INPUTS, CLASSES, np.where(np.arange(200) == 7, -1, 1)
def endless(config, rng): return INPUTS, CLASSES, np.where(np.arange(200) == 7, np.inf, 1)
def all_zero(config, rng): return {"train": (INPUTS, CLASSES, np.zeros(200)), "test": (INPUTS, CLASSES)}
def few(config, rng): return INPUTS, CLASSES, np.ones(7)
def of_test(config, rng): return {"train": (INPUTS, CLASSES), "test": (INPUTS, CLASSES, np.ones(200))}
def drifting(config, rng): return INPUTS, CLASSES, np.random.random(200)
def weights(config, rng): return INPUTS, CLASSES, 1.0 + CLASSES
def frame(config, rng): return {"x": INPUTS}.keys()
def mixed(config, rng): return {"train": (INPUTS, NAMES), "test": (INPUTS, CLASSES)}
def shapes(config, rng): return {"train": (INPUTS, CLASSES), "test": (INPUTS[:, 1:], CLASSES)}
def column(config, rng): return INPUTS, CLASSES[:, None]
def one_hot(config, rng): return INPUTS, np.eye(4, dtype=int)[CLASSES]
def short(config, rng): return INPUTS, CLASSES[:7]
def masked(config, rng): return np.ma.masked_greater(INPUTS, 2), CLASSES

def unscaled(config, rng): return (INPUTS * 40 + 100).clip(0, 255).astype(np.uint8), CLASSES
def bytes_as_floats(config, rng): return (INPUTS * 40 + 100).clip(0, 255).astype(np.uint8).astype(float), CLASSES
def years(config, rng): return INPUTS + np.array([0, 2000, 0]), CLASSES
def tiny(config, rng): return INPUTS * 1e-4, CLASSES
def binary(config, rng): return np.arange(200)[:, None] >> np.arange(8) & 1, CLASSES
def repeated(config, rng): return np.where(np.arange(200)[:, None] < 7, INPUTS[:1], INPUTS), CLASSES
def images(config, rng): return rng.random((200, 32, 32, 3)).reshape(200, -1), CLASSES
"""


@pytest.fixture(autouse=True)
def my_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks_of_test_custom.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "tasks_of_test_custom.py"


def of(name: str, **fields: Any) -> TrialConfig:
    small = {"data.examples": 100, "data.validation_examples": 50, "data.test_examples": 50}
    others = {name.replace("__", "."): value for name, value in fields.items()}
    return TrialConfig.of({"data.task": f"tasks_of_test_custom:{name}", **small, **others})


# Labels.


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("from_one", (1, 2, 3, 4)),
        ("negative", (-2, -1, 0, 1)),
        ("with_gaps", (2, 3, 5, 10**9)),
        ("unsigned", (0, 7, 9, 2**64 - 1)),
    ],
)
@pytest.mark.parametrize("noise", ["none", "labels", "wrong_labels"])
def test_classes_are_the_labels_that_occur(name: str, labels: tuple[int, ...], noise: str) -> None:
    fields = {"data__noise_kind": noise, "data__noise_fraction": 0.0 if noise == "none" else 0.6}
    data, plain = tasks.load(of(name, **fields)), tasks.load(of("from_zero", **fields))
    assert data.classes == 4
    assert data.class_labels == labels
    assert tasks.shape(of(name)) == (3, 4)
    order = np.argsort(np.array({"with_gaps": [2, 3, 10**9, 5], "unsigned": [0, 7, 2**64 - 1, 9]}.get(name, labels)))
    for part in ("labels", "true_labels", "held_out_labels"):
        if noise == "none":
            np.testing.assert_array_equal(order[getattr(data, part)], getattr(plain, part))
        assert set(np.unique(getattr(data, part))) == {0, 1, 2, 3}
    if (order == np.arange(4)).all():  # then noise draws the very same classes
        np.testing.assert_array_equal(data.corrupted, plain.corrupted)
    assert data.fingerprint != plain.fingerprint


def test_labels_from_zero_on_stay_as_they_are() -> None:
    data = tasks.load(of("from_zero"))
    assert (data.classes, data.class_labels) == (4, ())
    np.testing.assert_array_equal(data.labels, data.source_index % 4)
    booleans = tasks.load(of("booleans"))
    assert (booleans.classes, booleans.class_labels, booleans.labels.dtype) == (2, (), np.int64)


def test_a_pool_of_one_label_has_one_class() -> None:
    data = tasks.load(of("one_value"))
    assert (data.classes, data.class_labels) == (1, (3,))
    assert not data.labels.any()


def test_parts_that_lack_a_label_keep_the_pools_classes() -> None:
    data = tasks.load(of("rare"))
    assert data.class_labels == (0, 1, 2, 3, 9)
    seen = np.concatenate([data.labels, data.held_out_labels])
    assert np.bincount(seen, minlength=5)[4] == 1
    assert min(len(np.unique(part)) for part in (data.labels, data.held_out_labels)) == 4


def test_random_labels_are_drawn_from_the_classes_that_occur() -> None:
    data = tasks.load(of("from_one", data__label_scheme="random"))
    assert (data.classes, set(np.unique(data.labels)), data.class_labels) == (4, {0, 1, 2, 3}, ())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"data__label_scheme": "random"}, True),
        ({"data__label_scheme": "random", "data__classes": 5}, False),
        ({"data__label_scheme": "unique", "data__validation_examples": 0, "data__test_examples": 0}, False),
    ],
)
def test_only_trials_whose_numbers_follow_from_renumbered_labels_have_other_numbers(
    fields: dict[str, Any], expected: bool
) -> None:
    assert tasks.renumbers_labels(of("from_one", **fields)) is expected
    assert not tasks.renumbers_labels(of("from_zero", **fields))
    assert not tasks.renumbers_labels(TrialConfig())


def test_only_trials_of_renumbered_labels_are_of_a_newer_protocol(tmp_path: Path) -> None:
    fields = {"data.examples": 100, "data.validation_examples": 50, "data.test_examples": 50}
    names = [f"tasks_of_test_custom:{name}" for name in ("from_zero", "from_one")]
    sweep = Sweep("mine", fields, axes={"data.task": names}, seeds=(0,))
    same, renumbered = Replay(sweep, None).trials
    assert (same.flat()["protocol"], same.trial_id) == (1, FROM_ZERO_ID)
    assert renumbered.flat()["protocol"] == 2
    assert of("from_one", protocol=1).trial_id == FROM_ONE_ID
    store = Store(tmp_path / "results", create=True)
    store.write("trials", [ended(trial_id, "finished", protocol=1) for trial_id in (FROM_ZERO_ID, FROM_ONE_ID)])
    work = plan.work((same, renumbered), store)
    assert (work.settled, work.missing) == ((same,), (renumbered,))
    assert "1 stored trial is of an older protocol" in protocols.remark(work.missing, store)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("column", r"labels are int64 \(200, 1\); .* return labels.ravel\(\)"),
        ("one_hot", r"labels are int64 \(200, 4\); .* return labels.argmax\(axis=1\)"),
        ("objects", r"labels are object \(200,\); .* return labels.astype\(str\) of names"),
        ("short", r"labels are int64 \(7,\); .* return a label for each of the 200 rows"),
        ("masked", "masked values are not numbers"),
        ("without_train", "returns the splits test, other; must return train, and may return validation and test"),
        ("four", "returns 4 values; must return inputs and labels, and may return weights"),
        ("below_zero", "the weight of row 7 is -1; weights are finite numbers of 0 or more"),
        ("endless", "the weight of row 7 is inf; weights are"),
        ("all_zero", "all weights are 0, so that nothing would be trained"),
        ("few", r"weights are float64 \(7,\); must be numbers, one for each of the 200 rows"),
        ("of_test", "returns weights of test; return weights of train alone"),
        ("frame", "returns dict_keys; must return inputs and labels"),
        ("mixed", "labels are texts in one part and whole numbers in another; they must have one type"),
        ("shapes", r"inputs have the shapes \(2,\), \(3,\); must have one shape in all parts"),
    ],
)
def test_labels_of_another_form_are_refused_with_what_to_return(name: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        tasks.load(of(name))


def test_weights_belong_to_training_examples_and_change_training_alone() -> None:
    fields = {"data__noise_kind": "labels", "data__noise_fraction": 0.5, "data__repeats": (3, 2)}
    data, plain_data = tasks.load(of("weights", **fields)), tasks.load(of("from_zero", **fields))
    np.testing.assert_array_equal(data.weights, 1 + data.true_labels)
    assert not len(plain_data.weights) and data.fingerprint != plain_data.fingerprint
    assert program_key(of("weights")) != program_key(of("from_zero"))
    still = {"optimizer.learning_rate": 1e-30, "optimizer.epochs": 1}
    curves = [
        alone(trial, trainer.compose([trial])).curve
        for name in ("weights", "from_zero")
        if (trial := of(name).with_fields(still))
    ]
    assert [point.pop("gradient_norm") for curve in curves for point in curve.values()]
    assert curves[0] == curves[1]  # counts and losses of tables are unweighted
    (problem,) = tasks.check(of("weights", probes=("loss_sensitivity",)))
    assert "differentiate a loss without weights" in problem and not tasks.check(of("weights"))
    scalar = of("weights", optimizer__objective="tests.cases:spread")
    assert any("returns a scalar, and" in text for text in problems(scalar))
    assert "return different weights" in tasks.repeat_problems([of("drifting")])[0]


def test_names_are_classes_in_their_order() -> None:
    data = tasks.load(of("names"))
    assert data.class_labels == ("cat", "cow", "dog", "hen")
    np.testing.assert_array_equal(np.array(data.class_labels)[data.labels], NAMES[data.source_index])


@pytest.mark.parametrize(("name", "count"), [("splits", 40), ("real_splits", 0)])
def test_official_splits_of_a_function_are_respected(name: str, count: int) -> None:
    fields = {"data__validation_examples": 20, "data__examples": 90}
    data = tasks.load(of(name, **fields))
    row_of = {tuple(row): i for i, row in enumerate(INPUTS.astype(np.float32).tolist())}
    places = [[row_of[tuple(row)] for row in part.tolist()] for part in (data.inputs, data.held_out_inputs)]
    train, validation, test = places[0], places[1][:20], places[1][20:]
    assert len({*train, *validation, *test}) == 160
    assert set(test) < set(range(60))
    assert set(train) < set(range(60, 160 + 40 * (not count)))
    assert min(validation) >= 160 if count else set(validation) < set(range(60, 200))
    if count:
        np.testing.assert_array_equal(np.array(data.class_labels)[data.held_out_labels[:20]], NAMES[validation])
        too_many = of(name, **{**fields, "data__validation_examples": 41})
        assert "data.validation_examples = 41: task" in tasks.check(too_many)[0]
    else:
        np.testing.assert_array_equal(data.held_out_targets[20:], TARGETS[test].astype(np.float32))


def test_numbers_in_a_row_are_one_input_each() -> None:
    data = tasks.load(of("flat"))
    np.testing.assert_array_equal(data.inputs[:, 0], INPUTS[data.source_index, 0].astype(np.float32))
    assert data.inputs.shape == (100, 1)


def test_a_functions_images_keep_their_shape() -> None:
    trial = of("pictures", model__family="cnn", model__width=4)
    assert tasks.image_of(trial) == (3, 14, 12)
    data = tasks.load(trial)
    expected = PIXELS[data.source_index].transpose(0, 3, 1, 2).reshape(100, -1)
    np.testing.assert_array_equal(data.inputs, expected.astype(np.float32))
    assert tasks.remarks([trial]) == []
    assert "14x12" in str(program_key(trial))


@pytest.mark.parametrize("name", ["real", "real_column", "real_splits"])
def test_real_numbers_of_a_function_are_targets(name: str, tmp_path: Path) -> None:
    fields = {"optimizer__epochs": 3, "optimizer__batch_size": 10, "data__validation_examples": 20}
    trials = tuple(protocols.current(of(name, seed=seed, **fields)) for seed in range(2))
    assert plan.check(trials) == []
    store = Store(tmp_path / "results", create=True)
    assert list(run_pack(Pack(trials, 2, compared=True), store))[-1].failed == 0
    rows = store.trial_rows({trial.trial_id for trial in trials})
    for trial in trials:
        row, data = rows[trial.trial_id], tasks.load(trial)
        targets = TARGETS[:, :1] if name == "real_column" else TARGETS
        first = 60 if name == "real_splits" else 0
        np.testing.assert_array_equal(data.targets, targets[data.source_index + first].astype(np.float32))
        model, _ = plain.train(trial, trial.budget)
        with models.torch.no_grad():
            error = float((model(models.torch.tensor(data.inputs)) - models.torch.tensor(data.targets)).square().sum())
        assert row["train_squared_error_sum"] == pytest.approx(error, rel=1e-5)
        assert (row["train_correct_count"], row["status"]) == (None, "finished")
    assert [row["deviation"] for row in rows.values() if row["deviation"] is not None] == [0.0]
    with pytest.raises(SweepError, match=r"data.noise_kind = 'labels': the labels of 'tasks_of_test_custom:"):
        plan.check([of(name, data__noise_kind="labels", data__noise_fraction=0.1, **fields)])


def test_a_functions_targets_or_splits_that_change_are_noticed() -> None:
    facts = {name: tasks.load(of(name, data__validation_examples=0)).source for name in ("real", "real_column")}
    assert len(set(facts.values())) == 2


def test_the_labels_of_classes_are_stored_with_a_trial(tmp_path: Path) -> None:
    fields = {"probes": ("examples",), "optimizer.epochs": 1, "model.width": 4}
    trials = tuple(of(name).with_fields(fields) for name in ("from_one", "from_zero"))
    store = Store(tmp_path / "results", create=True)
    for trial in trials:
        assert list(run_pack(Pack((trial,), 1), store))[-1].failed == 0
    rows = store.trial_rows({trial.trial_id for trial in trials})
    assert [rows[trial.trial_id]["class_labels"] for trial in trials] == ["1,2,3,4", None]
    assert {rows[trial.trial_id]["class_count"] for trial in trials} == {4}
    for part in ("given_label", "true_label"):
        assert set(store.current("examples", [part])[part].to_pylist()) == {0, 1, 2, 3}


# Remarks.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unscaled", ["inputs lie between 0 and 2", "return inputs / 255."]),
        ("bytes_as_floats", ["return inputs / 255."]),
        ("years", ["inputs lie between", "return (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)."]),
        ("tiny", ["are not scaled", "return inputs / inputs.std()."]),
        ("from_one", ["labels 1, 2, 3, 4 are classes 0 to 3", "class_labels"]),
        ("floats", ["labels are whole numbers that are stored as real numbers, so they are targets", "return whole"]),
        ("one_value", ["all labels are 3: there is one class"]),
        ("repeated", ["7 of 200 rows of inputs occur more than once", "return each row once"]),
        ("identifiers", ["labels take 200 values in 200 rows"]),
    ],
)
def test_what_is_unusual_about_a_pool_is_remarked_with_the_remedy(name: str, expected: list[str]) -> None:
    [remark] = tasks.remarks([of(name, seed=seed) for seed in range(3)])
    assert remark.startswith(f"data.task = 'tasks_of_test_custom:{name}': ")
    assert all(part in remark for part in expected)


def test_colour_images_of_ones_own_are_read_channel_first() -> None:
    [remark] = tasks.remarks([of("images"), of("images", model__family="cnn", model__width=8)])
    assert "channel first, as [R, 3, 32, 32]: of images [R, 32, 32, 3] return images.transpose(0, 3, 1, 2)" in remark


def test_ordinary_pools_have_no_remarks() -> None:
    random = of("from_one", data__label_scheme="random", data__classes=3)
    assert tasks.remarks([of("from_zero"), of("binary"), random, TrialConfig()]) == []
