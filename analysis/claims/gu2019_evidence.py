"""Evidence for the claims of Gu & Tresp (2019): similarities of networks, and tests of their differences.

Networks are compared in pairs, which are not independent. Differences between two groups are tested by exchanging,
within each seed, the two networks that began with the same weights (a permutation test over all pairs), and by the
jackknife over seeds; bounds by the sign test, and trends by Page's test, over disjoint pairs. Networks that fit fewer
than 99 % of their labels are left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.claims.claim import Evidence, Margin, MissingTrialsError, Tested, Trend
from memsweep.analysis.core import comparisons, frames
from memsweep.analysis.questions import similarity
from memsweep.analysis.questions.similarity import (
    AGREEMENT,
    CKA,
    COSINE,
    KAPPA,
    PWCCA,
    SEPARATE,
    SHARED,
    TRUE,
    compared,
    of_pairs,
)

EXCHANGES = 9999
KEYS = ("quantity", "layer", "part", "width")
"""Columns that, with trial and step, identify an output of a network."""


def exchanged(what: str, alike: np.ndarray, one: int = 0, other: int = 1) -> Tested:
    """Returns the test that networks of one group are more alike than networks of another, by exchange within seeds.

    alike: [G, S, G, S].  one, other: indices of groups.  Estimate: difference of the means over all pairs within a
    group; its interval at 95 % is that of the jackknife over seeds.  Seeds without a network in either group are left
    out.
    p is the larger of two p-values: that of the exchange, whose null is that groups differ in nothing, not even in how
    their networks differ; and that of the jackknife's t, which assumes that means of seeds are about normal.
    Raises MissingTrialsError for fewer than 3 seeds.
    """
    both = alike[[one, other]][:, :, [one, other]]  # [2, S, 2, S]
    itself = both.reshape(2 * both.shape[1], -1).diagonal().reshape(2, -1)
    is_complete = ~np.isnan(itself).any(0)
    seeds = int(is_complete.sum())
    if seeds < 3:
        raise MissingTrialsError(f"{what}: {seeds} seeds with fitted networks of both groups, of 3 at least")
    both = both[:, is_complete][:, :, :, is_complete].reshape(2 * seeds, 2 * seeds)
    np.fill_diagonal(both, 0)
    is_other = np.random.default_rng(0).random((EXCHANGES + 1, seeds)) < 0.5
    is_other[0] = False
    means = [_within(both, np.hstack(chosen)) for chosen in ((~is_other, is_other), (is_other, ~is_other))]
    differences = means[0] - means[1]
    without = ~np.eye(seeds, dtype=bool)
    empty = np.zeros_like(without)
    left = _within(both, np.hstack((without, empty))) - _within(both, np.hstack((empty, without)))
    error = np.sqrt((seeds - 1) / seeds * ((left - left.mean()) ** 2).sum())
    if np.isnan(differences).any():
        raise MissingTrialsError(f"{what}: not defined for all pairs")
    half, estimate = float(stats.t.ppf(0.975, seeds - 1) * error), float(differences[0])
    p, against = (
        max(
            float(np.mean(sign * (differences - estimate) >= -1e-12)),
            float(stats.t.sf(sign * estimate / error, seeds - 1)) if error else 0.0,
        )
        for sign in (1, -1)
    )
    return Tested(what, estimate, estimate - half, estimate + half, p, against, seeds)


def _within(alike: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns [R], the mean over all pairs of the chosen networks.

    alike: [n, n], 0 on the diagonal.  chosen: [R, n] bool.
    """
    weights = chosen.astype(float)
    counts = weights.sum(1)
    mean: np.ndarray = ((weights @ alike) * weights).sum(1) / (counts * (counts - 1))
    return mean


def less_alike(
    rows: pd.DataFrame, measure: str, layer: int = 0, others: tuple[str, ...] = (SEPARATE,)
) -> list[Evidence]:
    """Returns how much more alike networks are with true labels than with each random labelling, and than `others`."""
    groups = [TRUE, *similarity.labellings(rows), *others]
    alike = compared(rows, measure, groups, layer=layer)
    return [exchanged(f"{measure}, {TRUE} less {groups[i]}", alike, 0, i) for i in range(1, len(groups))]


def on_training_inputs(rows: pd.DataFrame) -> list[Evidence]:
    """Returns agreement of pairs on training examples, with true labels and with one random labelling."""
    alike = compared(rows, AGREEMENT, (TRUE, SHARED))
    return [
        Margin(f"agreement of a pair on training examples, {group}", of_pairs(alike, i, i), 0.95)
        for i, group in enumerate((TRUE, SHARED))
    ]


def _layers(rows: pd.DataFrame) -> list[int]:
    if not (layers := similarity.hidden_layers(rows)):
        raise MissingTrialsError("no hidden layer is stored")
    return layers


def last_layers(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much more alike last hidden layers are with true labels than with each random labelling."""
    return less_alike(rows, CKA, _layers(rows)[-1], ())


def between_groups(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how near networks with a random labelling are to each other, beside a network with true labels."""
    groups = [TRUE, *similarity.labellings(rows)]
    alike = compared(rows, CKA, groups, layer=_layers(rows)[-1])
    parts: list[Evidence] = []
    for i, labelling in enumerate(groups[1:], start=1):
        learners, memorizers, between = (of_pairs(alike, *pair) for pair in ((0, 0), (i, i), (0, i)))
        half = (learners - between) / 2
        parts += [
            Margin(f"half of (within true - between) {sign} (within random - between), CKA, {labelling}", half + part)
            for sign, part in (("less", between - memorizers), ("plus", memorizers - between))
        ]
    return parts


def first_layers(rows: pd.DataFrame) -> list[Evidence]:
    """Returns the gap of CKA, true less random labels, in the last layer, and half of it less the first layer's."""
    layers = _layers(rows)
    if len(layers) < 3:
        raise MissingTrialsError(f"{len(layers)} hidden layers; the claim requires 3")
    gaps = []
    for layer in (layers[0], layers[-1]):
        alike = compared(rows, CKA, (TRUE, SHARED), layer=layer)
        gaps.append(of_pairs(alike, 0, 0) - of_pairs(alike, 1, 1))
    return [
        Margin("gap of the last hidden layer, CKA", gaps[1]),
        Margin("half of the last hidden layer's gap less the first one's, CKA", gaps[1] / 2 - gaps[0]),
    ]


def with_random_share(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how likeness of pairs falls with the share of random labels."""
    fractions = similarity.fractions(rows)
    if len(fractions) < 5:
        raise MissingTrialsError(f"{len(fractions)} shares of random labels; the claim requires 5")
    groups, last = [similarity.partly_random(fraction) for fraction in fractions], _layers(rows)[-1]
    trends: list[Evidence] = []
    for measure in (KAPPA, CKA):
        alike = compared(rows, measure, groups, layer=last)
        by_fraction = np.stack([of_pairs(alike, i, i) for i in range(len(groups))], axis=1)
        trends.append(Trend(f"-{measure} of a pair by the share of random labels", -by_fraction))
    return trends


def gradients(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much more alike input gradients are with true labels than with random ones, or before training."""
    alike = compared(rows, COSINE, (TRUE,))
    before = compared(rows, COSINE, (TRUE,), end=False)[0, :, 0]
    floor = np.nanmean(before[~np.eye(len(before), dtype=bool)]) if np.isfinite(before).any() else np.nan
    return [
        *less_alike(rows, COSINE),
        Margin("cosine of a pair, true labels, less the mean before training", of_pairs(alike, 0, 0) - floor),
    ]


def learning_order(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much more alike orders of learning are with true labels than with each random labelling."""
    rows = similarity.labelled(rows)
    width = rows.loc[rows["data_noise_fraction"] > 0, "model_width"].min()
    groups = [TRUE, *similarity.labellings(rows)]
    rows = rows[rows["group"].isin(groups) & (rows["model_width"] == width)]
    learned = rows.assign(step=rows["first_learned_step"].astype(float).fillna(np.inf))
    by_network = learned.pivot(index=["group", "seed"], columns="example", values="step")
    seeds = sorted(set(rows["seed"]))
    index = pd.MultiIndex.from_product([groups, seeds])
    steps = by_network.reindex(index)
    is_complete = steps.notna().all(axis=1).to_numpy()
    correlations = np.full((len(index), len(index)), np.nan)
    correlations[np.ix_(is_complete, is_complete)] = comparisons.order_correlation(steps[is_complete].to_numpy())
    alike = correlations.reshape(len(groups), len(seeds), len(groups), len(seeds))
    return [
        exchanged(f"Spearman of first learned steps, {TRUE} less {groups[i]}", alike, 0, i)
        for i in range(1, len(groups))
    ]


def simple_first(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much sooner true labels are fitted than random ones, and clean than corrupted examples."""
    rows = similarity.labelled(rows).dropna(subset="step")
    rows = rows[rows["model_width"] == rows.loc[rows["data_noise_fraction"] > 0, "model_width"].min()]
    reached = rows[rows["train_correct_count"] >= 0.9 * rows["train_count"]]
    first = reached.groupby(["group", "seed"])["step"].min()
    seeds = sorted(rows.loc[rows["group"] == TRUE, "seed"].unique())
    true, random = (first.reindex([(group, seed) for seed in seeds]).to_numpy(float) for group in (TRUE, SHARED))
    is_trained = pd.MultiIndex.from_frame(rows[["group", "seed"]]).unique()
    late = [np.inf if (SHARED, seed) in is_trained else np.nan for seed in seeds]
    partly = rows[(rows["data_noise_fraction"] > 0) & (rows["data_noise_fraction"] < 1)]
    ahead = frames.share(partly["clean_correct_count"], partly["clean_count"]) - frames.share(
        partly["corrupted_correct_count"], partly["corrupted_count"]
    )
    area = ahead.groupby([partly["group"], partly["seed"]]).mean().groupby("seed").mean()
    return [
        Margin(
            "steps to 0.9 training accuracy, random over true labels",
            np.where(np.isnan(random), late, random) / true,
            1,
        ),
        Margin("accuracy on clean less on corrupted examples, mean over measurements", area.to_numpy(float)),
    ]


def with_width(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how likeness of pairs with true labels rises with width, and how much more than before training."""
    widths = sorted(rows.loc[rows["data_noise_fraction"] == 0, "model_width"].unique())
    if len(widths) < 4:
        raise MissingTrialsError(f"{len(widths)} widths; the claim requires 4")
    trained, untrained = (
        np.stack(
            [
                of_pairs(compared(rows, PWCCA, (TRUE,), layer=_layers(rows)[-1], width=width, end=end), 0, 0)
                for width in widths
            ],
            axis=1,
        )
        for end in (True, False)
    )
    rise, before = (likeness[:, -1] - likeness[:, 0] for likeness in (trained, untrained))
    return [
        Trend("PWCCA similarity of a pair by width", trained),
        Margin("rise of PWCCA similarity from the narrowest to the widest, less before training", rise - before),
    ]


EFFECT = 0.5
"""Share by which `alike_with_true_labels` moves networks towards one of them, or steps towards their mean."""


def alike_with_true_labels(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Returns rows in which what networks with true labels learned is more alike, by EFFECT.

    rows: of similarity.QUERY or EXAMPLES. The numbers of trained networks on true labels at the end of their training
    move towards those of the network of the first seed; the steps at which examples are first right, towards their mean
    over networks. A mean of hidden layers is nothing that networks could share, as each network orders its units in its
    own way. Networks end at different steps: all of one width are moved together.
    """
    is_true = rows["data_noise_fraction"] == 0
    if "numbers" not in rows:
        keys, value = ["model_width", "example"], rows["first_learned_step"].astype(float)
        mean = value.groupby([rows[key] for key in keys] + [is_true]).transform("mean")
        return rows.assign(first_learned_step=value.where(~is_true, (1 - EFFECT) * value + EFFECT * mean))
    is_end = (rows["step"] > 0) & (rows["step"] == rows.groupby("trial_id")["step"].transform("max"))
    places = np.flatnonzero(is_true & is_end)
    places = places[np.argsort(rows["seed"].to_numpy()[places], kind="stable")]
    numbers = rows["numbers"].to_numpy(object, copy=True)
    for index in rows.iloc[places].groupby(["model_width", *KEYS]).indices.values():
        first = np.asarray(numbers[places[index[0]]], float)
        for place in places[index]:
            numbers[place] = (1 - EFFECT) * np.asarray(numbers[place], float) + EFFECT * first
    return rows.assign(numbers=numbers)
