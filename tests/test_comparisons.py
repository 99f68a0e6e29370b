"""Measures of likeness, against closed forms, their invariances, and what independence gives."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from memsweep.analysis.core import comparisons
from memsweep.analysis.core.comparisons import agreement, cka, gradient_cosine, kappa, order_correlation, pwcca

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3, 60, 5)) @ RNG.normal(size=(3, 5, 5)) + 7
ROTATION = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
PREDICTED = RNG.integers(0, 4, size=(3, 60))


def test_kappa_is_that_of_cohen_and_agreement_is_a_share():
    predicted = PREDICTED.copy()
    predicted[1, :30] = predicted[0, :30]
    for s in range(3):
        for t in range(3):
            assert kappa(predicted)[s, t] == pytest.approx(cohen_kappa_score(predicted[s], predicted[t]))
            assert agreement(predicted)[s, t] == (predicted[s] == predicted[t]).mean()
    assert np.isnan(kappa(np.ones((2, 9), int))).all()


def test_independent_predictions_have_no_kappa():
    predicted = RNG.choice(3, p=(0.8, 0.1, 0.1), size=(2, 100_000))
    assert agreement(predicted)[0, 1] > 0.6 and abs(kappa(predicted)[0, 1]) < 0.02


def test_cka_is_its_formula():
    x, y = (own - own.mean(0) for own in FEATURES[:2])
    norm = np.linalg.norm
    assert cka(FEATURES)[0, 1] == pytest.approx(norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))
    assert np.isnan(cka(np.ones((2, 9, 3)))).all()


def test_cka_and_pwcca_of_a_layer_turned_and_scaled():
    turned = np.stack([FEATURES[0], 3 * FEATURES[0] @ ROTATION + 1])
    assert cka(turned)[0, 1] == pytest.approx(1) and pwcca(turned)[0, 1] == pytest.approx(1)
    both = np.stack([FEATURES[0] @ ROTATION, FEATURES[1]])
    assert cka(both)[0, 1] == pytest.approx(cka(FEATURES[:2])[0, 1])


def test_pwcca_of_single_neurons_is_their_correlation():
    features = FEATURES[:, :, :1]
    expected = abs(np.corrcoef(features[0, :, 0], features[1, :, 0])[0, 1])
    assert pwcca(features)[0, 1] == pytest.approx(expected)


def test_pwcca_of_some_pairs():
    features = np.random.default_rng(0).normal(size=(4, 30, 3))
    asked = np.zeros((4, 4), bool)
    asked[0, 1] = asked[3, 2] = True
    found, whole = pwcca(features, asked), pwcca(features)
    there = asked | asked.T | np.eye(4, dtype=bool)
    assert (found[there] == whole[there]).all() and np.isnan(found[~there]).all() and not np.isnan(whole).any()


def test_pwcca_is_written_out(monkeypatch):
    """Canonical correlations by the eigenvalues of covariances, weights by their vectors."""
    monkeypatch.setattr(comparisons, "VARIANCE", 1 - 1e-12)
    x, y = (own - own.mean(0) for own in FEATURES[:2])

    def one_way(x, y):
        map_x = np.linalg.solve(x.T @ x, x.T @ y) @ np.linalg.solve(y.T @ y, y.T @ x)
        squares, directions = np.linalg.eig(map_x)
        vectors = x @ directions.real
        weights = np.abs((vectors / np.linalg.norm(vectors, axis=0)).T @ x).sum(1)
        return (weights * np.sqrt(squares.real)).sum() / weights.sum()

    assert pwcca(FEATURES)[0, 1] == pytest.approx((one_way(x, y) + one_way(y, x)) / 2)


def test_gradients_are_compared_where_predictions_agree():
    gradients = RNG.normal(size=(2, 4, 6))
    gradients[1, 2] = -5 * gradients[0, 2]
    gradients[1, 3] = 2 * gradients[0, 3]
    assert gradient_cosine(gradients, np.array([[0, 1, 2, 3], [1, 0, 2, 3]]))[0, 1] == pytest.approx(0)
    assert gradient_cosine(gradients, np.array([[0, 1, 2, 3], [1, 0, 0, 3]]))[0, 1] == pytest.approx(1)
    assert np.isnan(gradient_cosine(gradients, np.array([[0] * 4, [1] * 4]))[0, 1])


def test_order_correlation_is_spearmans_with_examples_never_learned_last():
    learned = RNG.integers(1, 9, size=(3, 60)).astype(float)
    learned[0, :5] = np.inf
    finite = np.where(np.isinf(learned), 99, learned)
    assert order_correlation(learned)[0, 1] == pytest.approx(stats.spearmanr(finite[0], finite[1]).statistic)
