"""Evidence for the claims of Arpit et al. (2017): each function takes a claim's rows and returns its parts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from memsweep.analysis.claims.arpit2017_noise import (
    CLEAN,
    KINDS,
    NOISES,
    by_fraction,
    fractions,
    shares,
    values,
    with_noise,
)
from memsweep.analysis.claims.claim import Margin, MissingTrialsError, Tested, Trend, paired
from memsweep.analysis.core import frames, statistics
from memsweep.analysis.questions import learning_curves, noise_capacity
from memsweep.analysis.questions.critical_samples import MULTIPLE
from memsweep.analysis.questions.learning_curves import FIT, LOST, PEAK, TRAIN, VALIDATION

REPLICATES = 12

FITTING = f"""select w.trial_id, w.setting_id, w.seed, t.status, s.step, s.epoch,
s.train_correct_count, s.train_count, s.validation_correct_count, s.validation_count, c.critical_count, c.example_count
from wanted w join trials t using (trial_id) join steps s using (trial_id) left join critical_samples c
on c.trial_id = s.trial_id and c.step = s.step and c.part = 'validation' and c.radius_multiple = {MULTIPLE}
where w.sweep = '{{sweep}}' order by w.position, s.step"""
"""All measurements of a sweep's trials, with critical validation samples where they were sought."""


# Easy and hard examples.

RUN_COUNT = 100
RESAMPLES = 9999


def dispersion(rows: pd.DataFrame) -> list[Tested]:
    """Returns the variance of examples' shares of right runs within classes, over the variance due to runs alone."""
    rows = rows.dropna(subset="run_count")  # rows of examples, not of trials
    by_noise = {noise: group for noise, group in with_noise(rows).groupby("noise")}
    draws = {}
    for noise in (CLEAN, *NOISES):
        if noise not in by_noise:
            raise MissingTrialsError(f"no result with noise {noise}")
        group = by_noise[noise]
        centred = group["right_count"] - group.groupby("given_label")["right_count"].transform("mean")
        parts = np.stack([centred**2, group["variance"]]).astype(float)  # [2, N]
        draws[noise] = resampled_ratio(parts)
    runs = int(rows["run_count"].min())
    (real, reals), (inputs, of_inputs), (labels, of_labels) = (draws[noise] for noise in (CLEAN, *NOISES))
    return [
        bootstrapped("dispersion, clean - random labels", real - labels, reals - of_labels, 0.0, runs),
        bootstrapped("dispersion, random labels", labels, of_labels, 1.0, runs),
        bootstrapped("dispersion, noise inputs", inputs, of_inputs, 0.8, runs),
        bootstrapped("- dispersion, noise inputs", -inputs, -of_inputs, -1.5, runs),
    ]


def resampled_ratio(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ratio of two sums over examples, [...], and that of RESAMPLES resampled sets, [..., RESAMPLES].

    parts: [..., 2, N], what is summed above and below.
    """
    sums, resampled = parts.sum(-1), parts @ _resamples(parts.shape[-1], RESAMPLES).T
    return sums[..., 0] / sums[..., 1], resampled[..., 0, :] / resampled[..., 1, :]


@lru_cache(maxsize=1)
def _resamples(n: int, count: int) -> np.ndarray:
    """Returns how often each of n examples is drawn in each resampled set: [count, n], the same at each call."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=count).astype(float)


def bootstrapped(what: str, estimate: np.ndarray, draws: np.ndarray, above: float, runs: int) -> Tested:
    """Returns the test that a quantity exceeds a bound, by its share of bootstrap draws on either side of the bound."""
    low, high = np.quantile(draws, [0.025, 0.975])
    p, against = ((1 + int(count)) / (1 + RESAMPLES) for count in ((draws <= above).sum(), (draws >= above).sum()))
    return Tested(what, float(estimate), float(low), float(high), p, against, runs, above)


DISPERSIONS = {"none": 4.0, "labels": 2.0, "gaussian_inputs": 1.0}
"""Dispersions that `of_unequal_examples` makes, by kind of noise."""


def of_unequal_examples(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Returns rows of examples whose shares of right runs vary by DISPERSIONS, about the means of their classes."""
    mean = rows.groupby(["data_noise_kind", "given_label"])["right_count"].transform("mean")
    spread = (rows["data_noise_kind"].map(DISPERSIONS) * rows["variance"]) ** 0.5
    return rows.assign(right_count=mean + spread * generator.normal(size=len(rows)))


# Loss sensitivity.


def gini(rows: pd.DataFrame, scheme: str) -> list[Margin]:
    """Returns the Gini coefficient of real less random inputs, in the second half of training."""
    chosen = rows[(rows["data_label_scheme"] == scheme) & (rows["step"] > rows["step"].max() / 2)]
    difference = paired(chosen, "gini_l1", "data_noise_kind", "none", "gaussian_inputs")
    return [Margin("Gini coefficient of loss sensitivity, real - random inputs", difference)]


def cross_class(rows: pd.DataFrame) -> list[Margin]:
    """Returns how much the loss depends on examples of other classes, on real and on random inputs."""
    is_same_class = rows["output_class"] == rows["input_class"]
    parts = rows.assign(own=rows["gradient_l1"].where(is_same_class), other=rows["gradient_l1"].where(~is_same_class))
    by_trial = parts.groupby(["data_noise_kind", "seed"])[["own", "other"]].agg(["sum", "mean"])
    spread = by_trial["other", "sum"] / (by_trial["own", "sum"] + by_trial["other", "sum"])
    ratio = np.log(by_trial["own", "mean"] / by_trial["other", "mean"])
    by_seed = pd.DataFrame({"spread": spread, "ratio": ratio}).reset_index()
    named = by_seed.assign(noise=by_seed["data_noise_kind"])
    difference = paired(by_seed, "spread", "data_noise_kind", "none", "gaussian_inputs")
    return [
        Margin("share of sensitivity to other classes' inputs, real - random inputs", difference),
        *(
            Margin(f"sensitivity to own over others' inputs (mean, log), {name}", values(named, kind, "ratio"))
            for kind, name in (("none", "real inputs"), ("gaussian_inputs", "random inputs"))
        ),
    ]


# Capacity.

NEAR = 0.005
"""Validation accuracy within half a point of the best counts as near it."""


def _fits(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with log2 of epochs until all is fitted: time (NaN: never), and least (the budget, if never)."""
    steps = rows["fitted_step"].astype(float)
    per_epoch = rows["data_examples"] / rows["optimizer_batch_size"]
    best = frames.share(rows["best_count"], rows["best_of"])
    least = np.log2(steps.fillna(rows["step_count"]) / per_epoch)
    return with_noise(rows.assign(time=np.log2(steps / per_epoch), least=least, best=best))


def _by_seed(rows: pd.DataFrame, noise: str, column: str, by: str) -> pd.DataFrame:
    """Returns a row a seed and a column a value of `by`, both sorted."""
    chosen = rows[rows["noise"] == noise]
    if chosen.empty:
        raise MissingTrialsError(f"no result with noise {noise}")
    table: pd.DataFrame = chosen.pivot(index="seed", columns=by, values=column)
    return table


def _partial(rows: pd.DataFrame, kind: str) -> list[str]:
    chosen = rows[(rows["data_noise_kind"] == kind) & rows["data_noise_fraction"].between(0, 1, inclusive="neither")]
    if chosen.empty:
        raise MissingTrialsError(f"no trial with a part of its examples {KINDS[kind]}")
    return list(chosen.sort_values("data_noise_fraction")["noise"].unique())


def _of_widths(rows: pd.DataFrame) -> pd.DataFrame:
    fits = _fits(rows)
    chosen: pd.DataFrame = fits[fits["data_examples"] == noise_capacity.examples_of_widths(fits)]
    return chosen


def _needed(rows: pd.DataFrame, noise: str) -> pd.Series[float]:
    """Returns log2 of the smallest width near the best, by seed."""
    best = _by_seed(rows, noise, "best", "model_width").dropna()
    is_near = best.ge(best.max(axis=1) - NEAR, axis=0)
    return is_near.idxmax(axis=1).map(np.log2)


def noise_needs_width(rows: pd.DataFrame) -> list[Margin]:
    """Returns the width needed, noisy less clean data, at the largest partial fraction of each kind of noise."""
    fits = _of_widths(rows)
    return [
        Margin(f"width needed (log2), {noise} - clean", (_needed(fits, noise) - _needed(fits, CLEAN)).to_numpy(float))
        for noise in (_partial(fits, kind)[-1] for kind in KINDS)
    ]


def _slower(rows: pd.DataFrame, by: str, what: str) -> list[Margin]:
    """Returns how much more time grows between the ends of an axis with noise inputs than on clean data, in log2.

    by: column of the axis, whose first value is the fast end.  A slow end that never fits with noise counts with its
    budget, which is less than the truth; where another end never fits, the seed is a tie.
    """
    clean = _by_seed(rows, CLEAN, "time", by)
    expected = clean.iloc[:, -1] - clean.iloc[:, 0]
    margins = []
    for noise in _partial(rows, "gaussian_inputs"):
        slow, fast = _by_seed(rows, noise, "least", by).iloc[:, -1], _by_seed(rows, noise, "time", by).iloc[:, 0]
        margins.append(Margin(f"{what}, {noise} - clean", (slow - fast - expected).fillna(0.0).to_numpy(float)))
    return margins


def width_helps_noise(rows: pd.DataFrame) -> list[Margin]:
    """Returns how much more epochs grow from the widest to the narrowest network on noise inputs than on clean data."""
    fits = _of_widths(rows)
    return _slower(fits.assign(narrowness=-fits["model_width"]), "narrowness", "epochs, narrowest by widest (log2)")


def examples_hurt_noise(rows: pd.DataFrame) -> list[Margin]:
    """Returns how much more epochs grow from fewest to most examples on noise inputs than on clean data."""
    fits = _fits(rows)
    sizes = fits.groupby("model_width")["data_examples"].nunique()
    if sizes.max() < 2:
        raise MissingTrialsError("no width with several numbers of examples")
    fits = fits[fits["model_width"] == sizes.idxmax()]
    return _slower(fits, "data_examples", "epochs, most by fewest examples (log2)")


def random_labels_take_longer(rows: pd.DataFrame) -> list[Margin]:
    """Returns log2 of epochs to fit random labels over epochs to fit true labels, at each width."""
    fits = _of_widths(rows)
    longer = _by_seed(fits, "labels 1", "least", "model_width") - _by_seed(fits, CLEAN, "time", "model_width")
    return [
        Margin(f"epochs, random by true labels (log2), width {width}", longer[width].to_numpy(float))
        for width in longer
    ]


# Learning curves.


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    counts = ["clean_count", "label_changed_count", "clean_correct_count", "memorized_count"]
    named = with_noise(shares(rows))[["noise", "seed", "epoch", VALIDATION, TRAIN, *counts]]  # cheap to group
    return statistics.by_group(named, ["noise", "seed"], _turn)


def _turn(curve: pd.DataFrame) -> dict[str, float]:
    curve = curve.sort_values("epoch")
    best = curve.iloc[int(curve[VALIDATION].argmax())]
    clean, wrong = best["clean_count"], best["label_changed_count"]
    return {
        **learning_curves.turns(curve),
        "peak": best[VALIDATION],
        "final": curve[VALIDATION].iloc[-1],
        "preferred": best["clean_correct_count"] / clean - best["memorized_count"] / wrong
        if clean and wrong
        else np.nan,
    }


def noise_costs(rows: pd.DataFrame) -> list[Trend]:
    """Returns how the peak and the final validation accuracy fall with the fraction of noise."""
    turns = _turned(rows)
    return [
        Trend(f"- {which} validation accuracy by the fraction of {KINDS[kind]}", -by_fraction(turns, kind, which))
        for kind in KINDS
        for which in ("peak", "final")
    ]


def patterns_first(rows: pd.DataFrame) -> list[Margin | Trend]:
    """Returns evidence that validation accuracy peaks before noisy labels are fitted, and is lost afterwards."""
    turns = _turned(rows)
    by_noise: list[Margin | Trend] = [
        part
        for noise in fractions(turns, "labels")
        for part in (
            Margin(
                f"epochs from best validation to fit, {noise}", values(turns, noise, FIT) - values(turns, noise, PEAK)
            ),
            Margin(
                f"validation accuracy lost after its peak, {noise} - clean", paired(turns, LOST, "noise", noise, CLEAN)
            ),
            Margin(f"accuracy at the peak, true - wrong labels, {noise}", values(turns, noise, "preferred")),
        )
    ]
    return [*by_noise, Trend("validation accuracy lost by the fraction", by_fraction(turns, "labels", LOST))]
