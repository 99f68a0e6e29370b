"""Similarity of networks, for all pairs of networks evaluated on the same examples.

Each function takes the outputs of S networks, network axis first, and returns a symmetric matrix [S, S].
"""

from __future__ import annotations

import numpy as np
from scipy import stats

VARIANCE = 0.99
"""Share of a layer's variance that PWCCA compares: directions beyond it are noise, and correlate by chance."""


def agreement(predicted: np.ndarray) -> np.ndarray:
    """Returns the share of examples, in [0, 1], for which two networks predict the same class.

    predicted: [S, E] classes.
    """
    is_class = (predicted[:, :, None] == np.unique(predicted)).reshape(len(predicted), -1).astype(float)
    share: np.ndarray = is_class @ is_class.T / predicted.shape[1]  # exact: a ratio of whole numbers
    return share


def kappa(predicted: np.ndarray) -> np.ndarray:
    """Returns Cohen's kappa, the agreement A beyond chance C: (A - C) / (1 - C).

    C = sum_c m_c m'_c, where m_c is the share of examples for which a network predicts class c.
    predicted: [S, E] classes.  At most 1; 0 for independent predictions; NaN where both always predict the same class.
    """
    classes = np.unique(predicted)
    shares = (predicted[:, :, None] == classes).mean(1)  # [S, K]
    chance = shares @ shares.T
    with np.errstate(invalid="ignore"):
        return np.where(chance < 1, (agreement(predicted) - chance) / (1 - chance), np.nan)


def cka(features: np.ndarray) -> np.ndarray:
    """Returns the linear centred kernel alignment: |Y'X|^2 / (|X'X| |Y'Y|), with Frobenius norms and centred features.

    features: [S, E, H].  In [0, 1]; invariant to rotation and scaling of a layer. NaN for a constant layer.
    """
    centred = features.astype(float) - features.mean(1, keepdims=True)
    grams = (centred @ centred.swapaxes(1, 2)).reshape(len(features), -1)
    norms = np.linalg.norm(grams, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = grams / np.where(norms > 0, norms, np.nan)
    alignment: np.ndarray = unit @ unit.T
    return alignment


def pwcca(features: np.ndarray, pairs: np.ndarray | None = None) -> np.ndarray:
    """Returns the projection-weighted canonical correlation sum_i a_i rho_i: 1 - the distance of Morcos et al. (2018).

    rho_i: canonical correlations of the directions that hold VARIANCE; a_i: sum_j |<h_i, z_j>| over the neurons z_j of
    the first network, with its canonical vectors h_i, normalised to sum 1. The measure is not symmetric: the mean of
    both directions is returned.
    features: [S, E, H], E well above H.  pairs: [S, S] bool, the pairs to compare, a millisecond each; other pairs are
    NaN; default: all.
    In [0, 1]; rotating both layers leaves rho unchanged, but not a.
    """
    centred = features.astype(float) - features.mean(1, keepdims=True)
    bases = [_base(layer) for layer in centred]
    matrix = np.where(np.eye(len(features), dtype=bool), 1.0, np.nan)
    chosen = np.ones(matrix.shape, bool) if pairs is None else pairs | pairs.T
    for s, t in zip(*np.nonzero(np.tril(chosen, -1)), strict=True):
        left, rho, right = np.linalg.svd(bases[s].T @ bases[t], full_matrices=False)
        sides = ((bases[s] @ left, centred[s]), (bases[t] @ right.T, centred[t]))
        weights = [np.abs(vectors.T @ neurons).sum(1) for vectors, neurons in sides]
        matrix[s, t] = matrix[t, s] = np.mean([(w * rho).sum() / w.sum() if w.sum() else np.nan for w in weights])
    return matrix


def gradient_cosine(gradients: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the mean cosine of input gradients over examples for which two networks predict the same class.

    gradients: [S, E, D], of the predicted class's logit.  predicted: [S, E].  In [-1, 1]; NaN where they never agree.
    """
    norms = np.linalg.norm(gradients, axis=2, keepdims=True)
    unit = gradients / np.where(norms > 0, norms, 1)
    cosines = np.einsum("sed,ted->ste", unit, unit, optimize=True)
    total, count = np.empty((2, len(unit), len(unit)))
    for s, classes in enumerate(predicted):  # a network at a time: [S, E] fits a cache, [S, S, E] does not
        alike = classes == predicted
        total[:, s], count[:, s] = np.multiply(cosines[:, s], alike, order="C").sum(1), alike.sum(1)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = total / count
    return mean


def order_correlation(learned: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation, in [-1, 1], of the steps at which two networks learn the examples.

    learned: [S, E] steps, infinite: never.
    """
    ranks = stats.rankdata(learned, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(ranks))


def _base(centred: np.ndarray) -> np.ndarray:
    """Returns orthonormal directions [E, p] that hold VARIANCE of a layer [E, H]."""
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    variances = np.cumsum(sizes**2)
    return left[:, : int(np.searchsorted(variances, VARIANCE * variances[-1])) + 1]
