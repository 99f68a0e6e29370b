"""Noise as experiments state it: confusion of classes, people's labels, covariances, repeated and listed examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memsweep.data import tasks
from memsweep.data.noise import Corrupted, corrupt, repeated
from memsweep.engine.train import plain
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack
from memsweep.run.policy import protocols
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.overrides import parse_overrides
from memsweep.spec.sweep import Sweep, SweepError
from tests.commands import own_folder  # noqa: F401  a fixture

N, K = 6000, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(K, size=N)
MATRIX = ((0.7, 0.3, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.1, 0.2, 0.3, 0.4), (1 / 3, 1 / 3, 1 / 3, 0.0))


def of(**fields: Any) -> TrialConfig:
    small = {"data.examples": 100, "data.validation_examples": 20, "data.test_examples": 30, "model.width": 4}
    others = {name.replace("__", "."): value for name, value in fields.items()}
    return TrialConfig.of({**small, "optimizer.epochs": 2, "optimizer.batch_size": 10, **others})


def corrupted(inputs: Any, **fields: Any) -> Corrupted:
    others = {f"data.{name}": value for name, value in fields.items()}
    trial = TrialConfig.of({"data.examples": N, "data.noise_fraction": 1.0, **others})
    return corrupt(inputs, LABELS, K, trial)


def trained(*trials: TrialConfig) -> list[dict[str, Any]]:
    """The rows of these trials, trained as one pack of which a member is run again alone."""
    store = Store("results", create=True)
    trials = tuple(map(protocols.current, trials))
    assert plan.check(trials) == []
    assert list(run_pack(Pack(trials, len(trials), compared=True), store))[-1].failed == 0
    rows = store.trial_rows({trial.trial_id for trial in trials})
    assert {row["deviation"] for row in rows.values()} - {None} == {0.0}
    return [rows[trial.trial_id] for trial in trials]


# Labels.


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_labels_are_confused_as_often_as_the_matrix_says(fraction: float) -> None:
    """Counts lie within 4.5 standard deviations of binomial ones; impossible and certain pairs are exact."""
    noisy = corrupted(
        np.zeros((N, 2), np.float32), noise_kind="confusion", noise_matrix=MATRIX, noise_fraction=fraction
    )
    for true in range(K):
        n = int((true == LABELS).sum())
        for given in range(K):
            p = fraction * MATRIX[true][given] + (1 - fraction) * (true == given)
            count = int(((true == LABELS) & (noisy.labels == given)).sum())
            assert abs(count - n * p) <= 4.5 * np.sqrt(n * p * (1 - p)) + 1e-6, (true, given, count, n * p)
    np.testing.assert_array_equal(noisy.changed, noisy.labels != LABELS)


def test_a_matrix_may_be_rows_or_their_numbers_in_a_row() -> None:
    fields = {"data__noise_kind": "confusion", "data__noise_fraction": 0.5}
    flat = tuple(np.ravel(MATRIX).tolist())
    trials = [
        of(**fields, data__noise_matrix=matrix) for matrix in (MATRIX, flat, list(map(list, MATRIX)), np.array(MATRIX))
    ]
    assert len({trial.trial_id for trial in trials}) == 1
    assert trials[0].data.noise_matrix == flat
    assert parse_overrides(["data.noise_matrix=0.9,0.1,0,1"]) == {"data.noise_matrix": ((0.9, 0.1, 0.0, 1.0),)}
    sweep = Sweep(
        "confused",
        fields and {"data.noise_kind": "confusion"},
        axes={"data.noise_matrix": (MATRIX, np.eye(4).tolist())},
    )
    assert [trial.data.noise_matrix for trial in sweep] == [flat, tuple(np.eye(4).ravel().tolist())]


def test_classes_are_exchanged_with_their_neighbours() -> None:
    inputs = np.zeros((N, 2), np.float32)
    after = {0: 1, 1: 2, 2: 3, 3: 0}
    assert corrupted(inputs, noise_kind="next_class").labels.tolist() == [after[label] for label in LABELS]
    other = {0: 1, 1: 0, 2: 3, 3: 2}
    assert corrupted(inputs, noise_kind="swapped_pairs").labels.tolist() == [other[label] for label in LABELS]
    some = corrupted(inputs, noise_kind="next_class", noise_fraction=0.3)
    assert set(((some.labels - LABELS) % K).tolist()) == {0, 1}
    assert abs(some.changed.mean() - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / N)


ROWS = 200
FEATURES = RNG.normal(size=(ROWS, 3))
TRUE = np.array(["cat", "cow", "dog"])[np.arange(ROWS) % 3]
HUMAN = np.where(RNG.random(ROWS) < 0.3, "bird", TRUE)


def write(name: str) -> str:
    frame = pd.DataFrame(FEATURES, columns=["a", "b", "c"]).assign(label=TRUE, human=HUMAN)
    parts = np.array(["train", "train", "train", "test"])[np.arange(ROWS) % 4]
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    elif name == "mine.npz":
        np.savez(name, x=FEATURES, label=TRUE, human=HUMAN)
    else:
        arrays = {"x": FEATURES, "label": TRUE, "human": HUMAN}
        np.savez(name, **{f"{key}_{p}": array[parts == p] for p in ("train", "test") for key, array in arrays.items()})
    return f"file:{name}"


@pytest.mark.parametrize("name", ["mine.csv", "mine.npz", "parts.npz"])
def test_peoples_labels_come_from_a_second_column(name: str) -> None:
    fields = {"data__task": write(name), "data__noise_label": "human", "data__noise_kind": "second_labels"}
    clean, half, every = (tasks.load(of(**fields, data__noise_fraction=fraction)) for fraction in (0.0, 0.5, 1.0))
    row_of = {tuple(row): i for i, row in enumerate(FEATURES.astype(np.float32).tolist())}
    names = np.array(clean.class_labels)
    assert names.tolist() == ["bird", "cat", "cow", "dog"]
    places = [row_of[tuple(row)] for row in every.inputs.tolist()]
    np.testing.assert_array_equal(names[every.labels], HUMAN[places])
    np.testing.assert_array_equal(names[every.true_labels], TRUE[places])
    np.testing.assert_array_equal(every.corrupted, HUMAN[places] != TRUE[places])
    np.testing.assert_array_equal(clean.labels, clean.true_labels)
    assert 0 < half.corrupted.sum() < every.corrupted.sum()
    assert not (half.corrupted & ~every.corrupted).any()
    held_out = [row_of[tuple(row)] for row in every.held_out_inputs.tolist()]
    np.testing.assert_array_equal(names[every.held_out_labels], TRUE[held_out])
    [row] = trained(of(**fields, data__noise_fraction=1.0))
    assert row["label_changed_count"] == (HUMAN[places] != TRUE[places]).sum() > 10
    assert row["class_labels"] == "bird,cat,cow,dog"
    assert (
        tasks.load(of(data__task=fields["data__task"], data__noise_label="human")).classes == 4
    )  # no column of inputs


# Inputs.

FULL = np.array([[2.0, 0.8, -0.5], [0.8, 1.0, 0.3], [-0.5, 0.3, 0.5]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [((2.0,), 2.0 * np.eye(3)), ((1.0, 0.0, 4.0), np.diag([1.0, 0.0, 4.0])), (FULL, FULL)],
)
def test_added_noise_has_the_given_covariance(given: Any, expected: Any) -> None:
    """Within 4.5 standard errors: of a covariance sqrt((C_ii C_jj + C_ij^2) / n), of a mean sqrt(C_ii / n)."""
    inputs = np.random.default_rng(1).normal(5, 2, (N, 3)).astype(np.float32)
    noisy = corrupted(inputs, noise_kind="added_noise", noise_covariance=given, noise_fraction=0.5)
    assert abs(noisy.changed.mean() - 0.5) < 4.5 * np.sqrt(0.25 / N)
    np.testing.assert_array_equal(noisy.inputs[~noisy.changed], inputs[~noisy.changed])
    added = (noisy.inputs - inputs)[noisy.changed].astype(np.float64)
    variances, n = np.diag(expected), len(added)
    errors = np.sqrt((np.outer(variances, variances) + expected**2) / n)
    assert (np.abs(np.cov(added, rowvar=False) - expected) <= 4.5 * errors + 1e-9).all()
    assert (np.abs(added.mean(axis=0)) <= 4.5 * np.sqrt(variances / n) + 1e-9).all()
    assert noisy.labels is LABELS


# Examples.


def test_only_listed_examples_are_corrupted() -> None:
    listed = (3, 0, 57, 99)
    noise = {"data__noise_kind": "next_class", "data__noise_fraction": 1.0}
    every, some = (tasks.load(of(**noise, data__noise_examples=chosen)) for chosen in ((), listed))
    assert every.corrupted.all()
    assert np.flatnonzero(some.corrupted).tolist() == sorted(listed)
    np.testing.assert_array_equal(some.labels[list(listed)], every.labels[list(listed)])


def test_examples_are_repeated_as_often_as_said() -> None:
    counts = (1, 5, 20)
    noise = {"data__noise_kind": "wrong_labels", "data__noise_fraction": 1.0, "data__noise_examples": (0, 1, 2)}
    once, many = (tasks.load(of(**noise, data__repeats=repeats)) for repeats in ((), counts))
    rows, occurrences = np.unique(many.source_index, return_counts=True)
    count_of = dict(zip(rows.tolist(), occurrences.tolist(), strict=True))
    assert [count_of.pop(row) for row in once.source_index[:3].tolist()] == [1, 5, 20]
    assert set(count_of.values()) == {1}
    assert len(many.inputs) == 100
    distinct = 100 - 4 - 19
    for name in ("inputs", "labels", "true_labels", "corrupted", "source_index"):
        before, after = getattr(once, name), getattr(many, name)
        np.testing.assert_array_equal(after[:distinct], before[:distinct])
        np.testing.assert_array_equal(after[distinct:], before[[1] * 4 + [2] * 19])
    assert many.corrupted.sum() == 1 + 5 + 20  # a copy is as corrupted as its example
    assert many.held_out_inputs is once.held_out_inputs
    assert repeated(of(data__repeats=(1, 1)).data) is None


def test_repeated_and_listed_examples_are_trained_as_in_plain_torch_and_stored() -> None:
    noise = {"data__noise_kind": "wrong_labels", "data__noise_fraction": 1.0, "data__noise_examples": (0, 1)}
    trials = [of(**noise, data__repeats=(3, 10), seed=seed, probes=("examples",)) for seed in range(3)]
    rows = trained(*trials)
    for trial, row in zip(trials, rows, strict=True):
        model, _ = plain.train(trial, trial.budget)
        data = tasks.load(trial)
        answers = model(plain.torch.tensor(data.inputs)).argmax(dim=1).numpy()
        assert (row["train_correct_count"], row["train_count"]) == ((answers == data.labels).sum(), 100)
        assert row["label_changed_count"] == 13
        assert (row["data_repeats"], row["data_noise_examples"]) == ("3,10", "0,1")
    stored = Store("results").current("examples", ["trial_id", "corrupted"]).to_pylist()
    assert sum(row["corrupted"] for row in stored) == 3 * 13
    wanted = {**trials[0].flat(), "seed": 0}
    assert TrialConfig.of(json.loads(json.dumps(wanted)) | {"probes": ("examples",)}).trial_id == trials[0].trial_id


@pytest.mark.parametrize("seed", [0, 1])
def test_a_subset_is_the_training_set_in_its_order(seed: int) -> None:
    subset = tuple(range(50, 250, 2))
    data = tasks.load(of(data__subset=subset, seed=seed))
    assert data.source_index.tolist() == list(subset)
    few = tasks.load(of(data__subset=subset, seed=seed, data__examples=7))
    assert few.source_index.tolist() == list(subset[:7])
    np.testing.assert_array_equal(few.held_out_inputs, data.held_out_inputs)
    pool = tasks.pools.pool_of_files("digits", "")
    listed = {tuple(row) for row in (pool.inputs[list(subset)] / 16).astype(np.float32).tolist()}
    assert not listed & {tuple(row) for row in data.held_out_inputs.tolist()}
    np.testing.assert_array_equal(data.labels, pool.labels[list(subset)])


def test_a_subset_lists_rows_of_the_official_training_part() -> None:
    parts = np.array(["train", "test"])[np.arange(ROWS) % 2]
    pd.DataFrame(FEATURES).assign(label=TRUE, part=parts).rename(columns=str).to_csv("mine.csv", index=False)
    fields = {"data__task": "file:mine.csv", "data__split": "part", "data__examples": 3}
    data = tasks.load(of(**fields, data__subset=(8, 2, 4)))
    assert data.source_index.tolist() == [8, 2, 4]
    with pytest.raises(
        SweepError, match=r"row 3 is no training row of task 'file:mine.csv', which has 100 from 0 to 198"
    ):
        plan.check([of(**fields, data__subset=(8, 3, 4))])


# What is refused.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"noise_kind": "confusion"}, "the noise needs more; set data.noise_matrix."),
        ({"noise_kind": "added_noise"}, "the noise needs more; set data.noise_covariance."),
        ({"noise_kind": "second_labels"}, "the noise needs more; set data.noise_label."),
        ({"noise_kind": "labels", "noise_matrix": np.eye(2)}, "only the noise confusion uses it"),
        ({"noise_matrix": ((0.5, 0.4), (0.5, 0.5))}, "must be K rows of K numbers in [0, 1], each row with the sum 1"),
        ({"noise_matrix": ((1.5, -0.5), (0.5, 0.5))}, "must be K rows of K numbers"),
        ({"noise_matrix": ((1.0, 0.0),)}, "must be K rows of K numbers"),
        ({"noise_covariance": (float("inf"),)}, "must be finite numbers"),
        ({"noise_label": "human"}, "only a file and given data have a second column of labels"),
        ({"noise_examples": (1, 1)}, "must be whole numbers of 0 or more, each once"),
        ({"noise_examples": (1,), "noise_kind": "my_lab.noise:flip"}, "a noise of yours chooses its examples itself"),
        ({"repeats": (0,)}, "must be whole numbers of 1 or more"),
        ({"subset": (-1,)}, "must be whole numbers of 0 or more, each once"),
        (
            {"subset": (1,), "task": "gaussian", "input_dim": 3, "label_scheme": "random", "classes": 2},
            "the examples of the task are drawn; set data.subset to ()",
        ),
    ],
)
def test_fields_of_noise_are_checked(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TrialConfig.of({f"data.{name}": value for name, value in fields.items()})
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"noise_kind": "confusion", "noise_matrix": np.eye(4)},
            "has 4 classes, and the data has 10; give 10 rows of 10",
        ),
        (
            {"noise_kind": "added_noise", "noise_covariance": (1, 2)},
            "has 2 numbers; give 1, 64 or 64 x 64 for 64 inputs",
        ),
        ({"noise_kind": "added_noise", "noise_covariance": (-1,)}, "holds a variance below 0"),
        ({"noise_kind": "added_noise", "noise_covariance": -np.eye(64)}, "is not symmetric and positive definite"),
        ({"noise_kind": "added_noise", "noise_covariance": np.tri(64)}, "is not symmetric and positive definite"),
        (
            {"noise_kind": "labels", "noise_examples": (7, 100)},
            "lists 100, and there are 100 training examples, from 0",
        ),
        (
            {"repeats": (50, 51)},
            "101 examples in all, and data.examples is 100; repeat fewer, or set data.examples to 101",
        ),
        ({"subset": (1, 2)}, "lists 2 rows, and data.examples is 100; list more, or set data.examples to 2"),
        ({"subset": range(1700)}, "task 'digits' has 97 besides data.subset"),
        ({"subset": range(1750, 1850)}, "row 1797 is no training row of task 'digits', which has 1797 from 0 to 1796"),
        (
            {"noise_kind": "swapped_pairs", "label_scheme": "random", "classes": 3},
            "needs an even number of classes, and the data has 3; use next_class or confusion",
        ),
        ({"noise_kind": "next_class", "label_scheme": "random", "classes": 1}, "needs 2 classes or more"),
    ],
)
def test_noise_that_does_not_fit_the_data_is_refused(fields: dict[str, Any], expected: str) -> None:
    held_out = 60 if fields.get("subset") == range(1700) else 10
    others = {f"data__{name}": value for name, value in {"noise_fraction": 0.5, **fields}.items()}
    if "noise_kind" not in fields:
        del others["data__noise_fraction"]
    trial = of(**{"data__validation_examples": held_out, "data__test_examples": held_out, **others})
    with pytest.raises(SweepError) as raised:
        plan.check([trial])
    assert expected in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_second_labels_must_be_labels() -> None:
    frame = pd.DataFrame(FEATURES, columns=["a", "b", "c"]).assign(label=TRUE)
    for name, values, expected in (
        ("numbers", np.arange(ROWS) % 3, "both must be whole numbers, or both texts"),
        ("reals", np.linspace(0, 1, ROWS), "the second labels are float64"),
        ("gone", None, "data.noise_label = 'human': there is no such column; name one of a, b, c, label"),
    ):
        table = frame if values is None else frame.assign(human=values)
        table.to_csv(f"{name}.csv", index=False)
        with pytest.raises(SweepError) as raised:
            plan.check([of(data__task=f"file:{name}.csv", data__noise_label="human")])
        assert expected in str(raised.value)
    Path("images", "cat").mkdir(parents=True)
    with pytest.raises(SweepError, match=r"data.noise_label = 'human': the folder has no columns"):
        plan.check([of(data__task="file:images", data__noise_label="human")])
