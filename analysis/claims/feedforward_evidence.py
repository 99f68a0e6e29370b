"""Evidence for the claims of the background on feed-forward networks: margins, facts and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from memsweep.analysis.claims.claim import (
    Evidence,
    Fact,
    Margin,
    MissingTrialsError,
    paired,
    within,
)
from memsweep.analysis.questions import (
    cover,
    random_labels,
)

DRAWS = 60
LARGEST_ERROR = 1e-5
"""Error of a label that rounding may leave (ours): the median over draws of the largest. It is larger in some draws,
where points nearly coincide along the direction."""
COVER_MARGIN, GUESSING_MARGIN = 0.05, 0.02
"""Largest allowed distance of a share of labellings from Cover's count, and of test error at full corruption from
guessing. With too few seeds to resolve it, a claim stays undecided."""
LABELLINGS, COVER_WEIGHTS, COVER_RATIOS = 1000, (10, 50), (1.5, 1.8, 2.0, 2.2, 2.5)
"""Labellings of each size; weights, bias included; points a weight."""
SEPARATED = 1e-9
"""Distance of 0 from the convex combinations of points beyond which it is not rounding."""


def two_n_plus_d(inputs: np.ndarray, labels: np.ndarray, direction: np.ndarray) -> tuple[float, int]:
    """Returns largest error and number of weights of Zhang et al.'s one-hidden-layer network that fits any labels.

    c(x) = sum_j w_j relu(<a, x> - b_j), with a bias between any two neighbours <a, x_i>, so that w follows by forward
    substitution.
    inputs: [n, d].  labels: [n].  direction: [d], a.
    """
    along = inputs @ direction
    order = np.argsort(along)
    sorted_along = along[order]
    first = sorted_along[0] - (sorted_along[-1] - sorted_along[0]) / len(along)
    biases = np.concatenate([[first], (sorted_along[1:] + sorted_along[:-1]) / 2])
    weights = solve_triangular(np.maximum(sorted_along[:, None] - biases, 0), labels[order], lower=True)
    outputs = np.maximum(along[:, None] - biases, 0) @ weights
    return float(np.abs(outputs - labels).max()), direction.size + biases.size + weights.size


def constructed(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns errors and numbers of weights of constructed networks; needs no trials."""
    errors, counts_hold = [], True
    for draw in range(DRAWS):
        generator, inputs, worst = np.random.default_rng([0, draw]), (1, 20, 100)[draw % 3], 0.0
        for n in (100, 500, 2000):
            x, y, a = generator.normal(size=(n, inputs)), generator.normal(size=n), generator.normal(size=inputs)
            error, weights = two_n_plus_d(x, y, a)
            worst, counts_hold = max(worst, error), counts_hold and weights == 2 * n + inputs
        errors.append(worst)
    middle = float(np.median(errors))
    return [
        Fact("networks with 2n + d weights (share)", float(counts_hold), counts_hold, 3 * DRAWS),
        Fact(
            "largest error of a label, n up to 2000, float64, median over draws", middle, middle < LARGEST_ERROR, DRAWS
        ),
    ]


def is_separable(points: np.ndarray) -> bool:
    """Returns whether a half-space whose border contains 0 holds all points [N, d]; exact, unlike training.

    By Gordan's theorem it does unless a convex combination of the points is 0, which is a linear program; non-negative
    least squares solves it.
    """
    system = np.vstack([points.T, np.ones(len(points))])
    combination = np.append(np.zeros(points.shape[1]), 1.0)
    return bool(nnls(system, combination)[1] > SEPARATED)


@cache
def separable_shares() -> dict[tuple[int, float], float]:
    """Returns (weights, points a weight) -> share of LABELLINGS random labellings of Gaussian points with a bias."""
    shares = {}
    for weights in COVER_WEIGHTS:
        for ratio in COVER_RATIOS:
            generator, count = np.random.default_rng([weights, round(10 * ratio)]), round(ratio * weights)
            separable = 0
            for _ in range(LABELLINGS):
                points = np.column_stack([generator.normal(size=(count, weights - 1)), np.ones(count)])
                separable += is_separable(points * generator.choice((-1.0, 1.0), size=(count, 1)))
            shares[weights, ratio] = separable / LABELLINGS
    return shares


def cover_transition(rows: pd.DataFrame) -> Sequence[Fact]:
    """Returns how far the share of separable labellings is from Cover's count, and its fall by number of weights.

    Needs no trials.
    """
    shares = separable_shares()
    off = {
        (weights, ratio): abs(share - float(cover.separable(np.array(round(ratio * weights)), np.array(weights))))
        for (weights, ratio), share in shares.items()
    }
    few, many = (shares[weights, 1.8] - shares[weights, 2.2] for weights in COVER_WEIGHTS)
    what = "from 1.8 to 2.2 points a weight"
    return [
        Fact("largest distance of a share from Cover's", max(off.values()), max(off.values()) < COVER_MARGIN, len(off)),
        Fact(f"fall of the share {what}, most weights less fewest", many - few, many > few, LABELLINGS),
    ]


def random_fitted(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns how much later random labels are fitted than true labels and than Gaussian inputs."""
    kind = random_labels.KIND
    trials = rows[rows[random_labels.FRACTION].isin([0.0, 1.0])]
    trials = trials.assign(log_epochs=np.log(random_labels.epochs(trials)))
    later = paired(trials, "log_epochs", kind, "labels", "none")
    return [
        _all_fitted(trials[trials[kind].isin(["none", "labels", "gaussian_inputs"])]),
        Margin("log of epochs, random labels / true labels", later),
        Margin("log of 10 - log of epochs, random labels / true labels", np.log(10) - later),
        Margin(
            "log of epochs, random labels / Gaussian", paired(trials, "log_epochs", kind, "labels", "gaussian_inputs")
        ),
    ]


def corruption_curve(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the rise of test error with the share of random labels, and its distance from guessing at share 1."""
    trials = rows[rows[random_labels.KIND].isin(["none", "labels"])]
    trials = trials.assign(error=random_labels.error(trials, "test"))
    by_seed = trials.pivot_table(index="seed", columns=random_labels.FRACTION, values="error", dropna=False)
    if not {0.0, 1.0} <= set(by_seed) or by_seed.shape[1] < 3:
        raise MissingTrialsError("no test errors of true labels, of random ones, and of shares between")
    rises = by_seed.diff(axis=1).iloc[:, 1:].min(axis=1).to_numpy(float)
    guessing = 1 - 1 / float(trials["class_count"].max())
    return [
        Margin("smallest rise of test error between neighbouring shares", rises),
        *within("test error of random labels - guessing", by_seed[1.0].to_numpy() - guessing, GUESSING_MARGIN),
        _all_fitted(trials),
    ]


def _all_fitted(trials: pd.DataFrame) -> Margin:
    """Returns a margin that each seed misses less than one label in a thousand."""
    worst = random_labels.error(trials, "train").groupby(trials["seed"]).max()
    return Margin("0.001 - largest training error", 0.001 - worst.to_numpy(float))
