"""Evidence for the claims of the background on feed-forward networks: margins, facts and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import solve_triangular

from memsweep.analysis.claims.claim import (
    Evidence,
    Fact,
    Margin,
    MissingTrialsError,
    Tested,
    paired,
    within,
)
from memsweep.analysis.questions import (
    cover,
    random_labels,
)

DRAWS = 60
COVER_MARGIN, GUESSING_MARGIN = 0.05, 0.02
"""Largest allowed distance of a share of labellings from Cover's count, and of test error at full corruption from
guessing. With too few labellings or seeds to resolve it, a claim stays undecided."""


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
    return [
        Fact("networks with 2n + d weights (share)", float(counts_hold), counts_hold, 3 * DRAWS),
        Margin("1e-5 - largest error of a label, n up to 2000, float64", 1e-5 - np.array(errors)),
    ]


def cover_transition(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns tests of the share of labellings fitted against Cover's count, and of its fall by number of weights."""
    fits = cover.fitted(rows)
    parts: list[Evidence] = []
    shares: dict[int, dict[float, tuple[int, int]]] = {}
    for _, group in fits.groupby([cover.WEIGHTS, "data_examples"]):
        weights, points = (int(group[name].iloc[0]) for name in (cover.WEIGHTS, "data_examples"))
        count, n = int(group["fitted"].sum()), int(group["fitted"].count())
        expected = float(cover.separable(np.array(points), np.array(weights)))
        name = f"share of labellings fitted, {weights} weights, {points} points"
        parts += _within_share(name, count, n, expected, COVER_MARGIN)
        shares.setdefault(weights, {})[round(points / weights, 1)] = (count, n)
    few, many = min(shares), max(shares)
    if few == many or not {1.8, 2.2} <= set(shares[few]) & set(shares[many]):
        raise MissingTrialsError("no labellings of 1.8 and 2.2 points a weight with two numbers of weights")
    ends = [(of_weights[1.8], of_weights[2.2]) for of_weights in (shares[many], shares[few])]
    falls = [more[0] / more[1] - less[0] / less[1] for more, less in ends]
    # with a success and a failure added, so that shares of 0 and 1 have a variance too
    smooth = [((count + 1) / (n + 2), n) for pair in ends for count, n in pair]
    variance = sum(share * (1 - share) / n for share, n in smooth)
    steeper, error = falls[0] - falls[1], float(np.sqrt(variance))
    low, high = stats.norm.interval(0.95, steeper, error)
    least = min(n for of_weights in shares.values() for _, n in of_weights.values())
    p = float(stats.norm.sf(steeper / error))
    what = f"fall of the share from 1.8 to 2.2 points a weight, {many} weights - {few}"
    return [*parts, Tested(what, steeper, float(low), float(high), p, 1 - p, least)]


def _within_share(what: str, count: int, n: int, expected: float, margin: float) -> list[Evidence]:
    """Returns tests that a share equals `expected` within a margin: two one-sided exact binomial tests.

    A test whose bound lies outside (0, 1) can't fail and is left out.
    """
    parts: list[Evidence] = []
    low, high = stats.binomtest(count, n).proportion_ci(method="wilson")
    for bound, (more, less) in ((expected - margin, ("greater", "less")), (expected + margin, ("less", "greater"))):
        if 0 < bound < 1:
            p, against = (float(stats.binomtest(count, n, bound, side).pvalue) for side in (more, less))
            parts.append(Tested(f"{what}, {more} than {bound:.2f}", count / n, low, high, p, against, n, bound))
    return parts


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
