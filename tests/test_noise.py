"""Corruption touches what it says, as often as it says, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memsweep.data.noise import Corrupted, corrupt
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import LABEL_NOISE, NOISE_KINDS

KINDS = NOISE_KINDS[1:]
INPUT_NOISE = tuple(kind for kind in KINDS if kind not in LABEL_NOISE)
N, D, K = 4000, 12, 10
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(3, 2, (N, D)).astype(np.float32)
LABELS = RNG.integers(K, size=N)
SECOND = RNG.integers(K, size=N)
MATRIX = np.random.default_rng(3).dirichlet(np.full(K, 0.3), size=K)
NEEDED: dict[str, dict[str, Any]] = {
    "confusion": {"data.noise_matrix": MATRIX},
    "second_labels": {"data.task": "file:mine.csv", "data.noise_label": "human"},
    "added_noise": {"data.noise_covariance": (2.0,)},
}
SOME = ("labels", "confusion", "second_labels")
"""Noises that leave a label as it is by chance."""


def corrupted(kind: str, fraction: float, rows: int = N, **fields: Any) -> Corrupted:
    inputs, labels = (INPUTS, LABELS) if rows == N else (INPUTS[:rows], LABELS[:rows])
    return corrupt(inputs, labels, K, config(kind, fraction, **fields), SECOND[:rows])


def config(kind: str, fraction: float, **fields: Any) -> TrialConfig:
    needed = NEEDED.get(kind, {})
    return TrialConfig.of({"data.noise_kind": kind, "data.noise_fraction": fraction, **needed, **fields})


@pytest.mark.parametrize("kind", KINDS)
def test_larger_fractions_keep_the_smaller_ones_values(kind: str) -> None:
    few, many = corrupted(kind, 0.2), corrupted(kind, 0.6)
    assert few.changed.sum() > 0
    assert not (few.changed & ~many.changed).any()
    np.testing.assert_array_equal(few.labels[few.changed], many.labels[few.changed])
    np.testing.assert_array_equal(few.inputs[few.changed], many.inputs[few.changed])


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_examples_do_not_depend_on_how_many_follow(kind: str) -> None:
    few, many = corrupted(kind, 0.5, 501), corrupted(kind, 0.5)
    np.testing.assert_array_equal(few.changed, many.changed[:501])
    np.testing.assert_array_equal(few.labels, many.labels[:501])
    if kind != "gaussian_inputs":  # whose mean and variance are those of the examples at hand
        np.testing.assert_array_equal(few.inputs, many.inputs[:501])


@pytest.mark.parametrize("kind", KINDS)
def test_changed_says_what_differs_from_before(kind: str) -> None:
    for fraction in (0.0, 0.3, 1.0):
        result = corrupted(kind, fraction)
        differs = (result.labels != LABELS) | (result.inputs != INPUTS).any(axis=1)
        np.testing.assert_array_equal(result.changed, differs)
    assert (result.labels is LABELS) == (kind not in LABEL_NOISE)
    assert (result.inputs is INPUTS) == (kind in LABEL_NOISE)


@pytest.mark.parametrize("kind", KINDS)
def test_fraction_zero_changes_nothing_and_one_takes_all(kind: str) -> None:
    none, every = corrupted(kind, 0.0), corrupted(kind, 1.0)
    assert none.inputs is INPUTS
    assert not none.changed.any()
    assert every.changed.mean() == 1 if kind not in SOME else every.changed.mean() > 0.6
    assert every.inputs.dtype == np.float32
    assert every.labels.dtype == np.int64


SHARES = {"labels": 1 - 1 / K, "second_labels": 1 - 1 / K, "confusion": float(1 - np.diag(MATRIX)[LABELS].mean())}


@pytest.mark.parametrize(("kind", "share"), [(kind, SHARES.get(kind, 1.0)) for kind in KINDS])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_share_changed_is_the_expected_one(kind: str, share: float, fraction: float) -> None:
    """Redrawn labels are right by chance with probability 1/K; the tolerance is four standard errors."""
    p = fraction * share
    assert abs(corrupted(kind, fraction).changed.mean() - p) <= 4 * np.sqrt(p * (1 - p) / N)


def test_new_labels_are_uniform() -> None:
    redrawn, wrong = corrupted("labels", 1.0).labels, corrupted("wrong_labels", 1.0).labels
    assert not (wrong == LABELS).any()
    for labels, others in ((redrawn, 0), (wrong, 1)):
        pairs = np.histogram2d(LABELS, labels, bins=K)[0]
        expected = np.bincount(LABELS)[:, None] * (1 - others * np.eye(K)) / (K - others)
        assert (np.abs(pairs - expected) <= 4.5 * np.sqrt(expected)).all()


def test_gaussian_inputs_have_the_mean_and_variance_of_the_inputs() -> None:
    result = corrupted("gaussian_inputs", 0.5)
    drawn = result.inputs[result.changed].astype(np.float64)
    correlations = np.asarray(np.corrcoef(drawn, rowvar=False))
    error = INPUTS.std() / np.sqrt(drawn.size)
    assert abs(drawn.mean() - INPUTS.mean()) < 4 * error
    assert abs(drawn.std() - INPUTS.std()) < 4 * error / np.sqrt(2)
    assert np.abs(correlations - np.eye(D)).max() < 4 / np.sqrt(len(drawn))


def test_shuffled_pixels_share_one_order() -> None:
    result = corrupted("shuffled_pixels", 0.5)
    before, after = INPUTS[result.changed], result.inputs[result.changed]
    order = [int(np.flatnonzero(before[0] == value)[0]) for value in after[0]]
    assert sorted(order) == list(range(D))
    np.testing.assert_array_equal(after, before[:, order])


def test_random_pixels_have_an_order_an_image() -> None:
    result = corrupted("random_pixels", 1.0)
    np.testing.assert_array_equal(np.sort(result.inputs), np.sort(INPUTS))
    orders = {tuple(np.flatnonzero(INPUTS[i] == value)[0] for value in result.inputs[i]) for i in range(100)}
    assert len(orders) > 90


def test_an_image_that_shuffling_leaves_alone_is_not_corrupted() -> None:
    inputs = np.ones((2, D), dtype=np.float32)
    inputs[1] = np.arange(D)
    result = corrupt(inputs, np.zeros(2, np.int64), K, config("shuffled_pixels", 1.0))
    assert result.changed.tolist() == [False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_noise_seed_moves_the_noise(kind: str) -> None:
    first = corrupted(kind, 0.5)
    for field in ("seeds.inputs", "seeds.labels", "seeds.init", "seeds.order", "model.width"):
        again = corrupted(kind, 0.5, **{field: 7})
        np.testing.assert_array_equal(again.labels, first.labels)
        np.testing.assert_array_equal(again.inputs, first.inputs)
    assert (corrupted(kind, 0.5, **{"seeds.noise": 7}).changed != first.changed).any()


def test_one_class_has_no_wrong_label() -> None:
    with pytest.raises(ValueError, match=r"wrong_labels.*the data has 1;"):
        corrupt(INPUTS, np.zeros(N, np.int64), 1, config("wrong_labels", 0.5))
