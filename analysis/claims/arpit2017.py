"""Arpit et al. 2017, A Closer Look at Memorization in Deep Networks (ICML; arXiv 1706.05394).

The paper has no tables, error bars or tests, and its curves' values could not be read: what is compared is its, every
threshold is ours unless a claim says otherwise. All is tested on digits and MLPs at our size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis import class_sensitivity, frames, learning_curves, regularization, statistics
from analysis.claims.claim import Basis, Claim, Margin, MissingTrialsError, Paper, Tested, paired
from analysis.critical_samples import MULTIPLE
from analysis.critical_samples import QUERY as CRITICAL_SAMPLES
from analysis.learning_curves import FIT, LOST, PEAK, TRAIN, VALIDATION
from analysis.learning_order import QUERY as RUNS
from analysis.loss_sensitivity import QUERY as LOSS_SENSITIVITY
from analysis.noise_capacity import QUERY as FITS

KINDS = {"gaussian_inputs": "noise inputs", "labels": "random labels"}
NOISE = ("data_noise_kind", "data_noise_fraction")
CLEAN, NOISES = "clean", ("gaussian_inputs 1", "labels 1")
"""Real data, and data of which all examples are noise, as `_named` calls them."""
REPLICATES = 12

FITTING = f"""select w.trial_id, w.setting_id, w.seed, w.configuration, t.status, s.step, s.epoch,
s.train_correct_count, s.train_count, s.validation_correct_count, s.validation_count, c.critical_count, c.example_count
from wanted w join trials t using (trial_id) join steps s using (trial_id) left join critical_samples c
on c.trial_id = s.trial_id and c.step = s.step and c.part = 'validation' and c.radius_multiple = {MULTIPLE}
where w.sweep = '{{sweep}}' order by w.position, s.step"""
"""All measurements of a sweep's trials, with critical validation samples where they were sought."""


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """With a column `noise`: kind and fraction, or CLEAN."""
    pairs = zip(rows["data_noise_kind"], rows["data_noise_fraction"], strict=True)
    return rows.assign(noise=[f"{kind} {fraction:g}" if fraction else CLEAN for kind, fraction in pairs])


def _fractions(found: pd.DataFrame, kind: str) -> list[str]:
    """The paper's partial fractions of a kind that are there, least noise first, as `_named` calls them."""
    named = [f"{kind} {fraction:g}" for fraction in (0.2, 0.4, 0.6, 0.8)]
    there = [noise for noise in named if noise in set(found["noise"])]
    if len(there) < 3:
        raise MissingTrialsError(f"fewer than 3 fractions of {KINDS[kind]} between 0.2 and 0.8")
    return there


def _values(found: pd.DataFrame, noise: str, column: str) -> np.ndarray:
    """[S] of one noise, a seed each, in the order of seeds."""
    chosen = found[found["noise"] == noise].sort_values("seed")
    if chosen.empty:
        raise MissingTrialsError(f"no result with noise {noise}")
    return chosen[column].to_numpy(float)


def _rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Spearman's; 0 where either is constant, since nothing rises then."""
    return 0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else float(stats.spearmanr(x, y).statistic)


def _trend(found: pd.DataFrame, kind: str, column: str) -> np.ndarray:
    """[S] rank correlation of a column with the fraction of noise, of each seed that has all fractions."""
    table = found.pivot(index="seed", columns="noise", values=column)[_fractions(found, kind)].dropna()
    return np.array([_rank_correlation(np.arange(len(row)), row) for row in table.to_numpy(float)])


# Easy and hard examples.

RUN_COUNT = 100
RESAMPLES = 9999


def _dispersion(rows: pd.DataFrame) -> list[Tested]:
    """Variance of examples' shares of right runs within their classes, over what runs alone would give."""
    found = {noise: own for noise, own in _named(rows).groupby("noise")}
    draws = {}
    for noise in (CLEAN, *NOISES):
        if noise not in found:
            raise MissingTrialsError(f"no result with noise {noise}")
        own = found[noise]
        centred = own["right_count"] - own.groupby("given_label")["right_count"].transform("mean")
        parts = np.stack([centred**2, own["variance"]]).astype(float)  # [2, N]
        chosen = np.random.default_rng(0).multinomial(len(own), np.full(len(own), 1 / len(own)), size=RESAMPLES)
        resampled = parts @ chosen.T
        draws[noise] = (parts[0].sum() / parts[1].sum(), resampled[0] / resampled[1])
    runs = int(rows["run_count"].min())
    (real, reals), (inputs, of_inputs), (labels, of_labels) = (draws[noise] for noise in (CLEAN, *NOISES))
    return [
        _bootstrapped("dispersion, clean - random labels", real - labels, reals - of_labels, 0.0, runs),
        _bootstrapped("dispersion, random labels", labels, of_labels, 1.0, runs),
        _bootstrapped("dispersion, noise inputs", inputs, of_inputs, 0.8, runs),
        _bootstrapped("- dispersion, noise inputs", -inputs, -of_inputs, -1.5, runs),
    ]


def _bootstrapped(what: str, estimate: float, draws: np.ndarray, above: float, runs: int) -> Tested:
    low, high = np.quantile(draws, [0.025, 0.975])
    p, against = ((1 + int(count)) / (1 + RESAMPLES) for count in ((draws <= above).sum(), (draws >= above).sum()))
    return Tested(what, float(estimate), float(low), float(high), p, against, runs, above)


# Loss sensitivity.


def _gini(rows: pd.DataFrame, scheme: str) -> list[Margin]:
    """Of real above random inputs, in the second half of training."""
    chosen = rows[(rows["data_label_scheme"] == scheme) & (rows["step"] > rows["step"].max() / 2)]
    difference = paired(chosen, "gini_l1", "data_noise_kind", "none", "gaussian_inputs")
    return [Margin("Gini coefficient of loss sensitivity, real - random inputs", difference)]


def _cross_class(rows: pd.DataFrame) -> list[Margin]:
    own = rows["output_class"] == rows["input_class"]
    parts = rows.assign(own=rows["gradient_l1"].where(own), other=rows["gradient_l1"].where(~own))
    by_trial = parts.groupby(["data_noise_kind", "seed"])[["own", "other"]].agg(["sum", "mean"])
    spread = by_trial["other", "sum"] / (by_trial["own", "sum"] + by_trial["other", "sum"])
    ratio = np.log(by_trial["own", "mean"] / by_trial["other", "mean"])
    found = pd.DataFrame({"spread": spread, "ratio": ratio}).reset_index()
    named = found.assign(noise=found["data_noise_kind"])
    difference = paired(found, "spread", "data_noise_kind", "none", "gaussian_inputs")
    return [
        Margin("share of sensitivity to other classes' inputs, real - random inputs", difference),
        *(
            Margin(f"sensitivity to own over others' inputs (mean, log), {name}", _values(named, kind, "ratio"))
            for kind, name in (("none", "real inputs"), ("gaussian_inputs", "random inputs"))
        ),
    ]


# Capacity.

NEAR = 0.005
"""Of the best validation accuracy: half a point."""


def _fits(rows: pd.DataFrame) -> pd.DataFrame:
    """With time, log2 of epochs until all is fitted (NaN: never), and least, the same or the budget's."""
    steps = rows["fitted_step"].astype(float)
    per_epoch = rows["data_examples"] / rows["optimizer_batch_size"]
    best = frames.share(rows["best_count"], rows["best_of"])
    least = np.log2(steps.fillna(rows["step_count"]) / per_epoch)
    return _named(rows.assign(time=np.log2(steps / per_epoch), least=least, best=best))


def _by_seed(found: pd.DataFrame, noise: str, column: str, by: str) -> pd.DataFrame:
    """A row a seed, a column a value of `by`, in their order."""
    chosen = found[found["noise"] == noise]
    if chosen.empty:
        raise MissingTrialsError(f"no result with noise {noise}")
    table: pd.DataFrame = chosen.pivot(index="seed", columns=by, values=column)
    return table


def _partial(found: pd.DataFrame, kind: str) -> list[str]:
    own = found[(found["data_noise_kind"] == kind) & found["data_noise_fraction"].between(0, 1, inclusive="neither")]
    if own.empty:
        raise MissingTrialsError(f"no trial with a part of its examples {KINDS[kind]}")
    return list(own.sort_values("data_noise_fraction")["noise"].unique())


def _all_examples(rows: pd.DataFrame) -> pd.DataFrame:
    found = _fits(rows)
    largest: pd.DataFrame = found[found["data_examples"] == found["data_examples"].max()]
    return largest


def _needed(found: pd.DataFrame, noise: str) -> pd.Series[float]:
    """log2 of the smallest width near the best, by seed."""
    best = _by_seed(found, noise, "best", "model_width").dropna()
    is_near = best.ge(best.max(axis=1) - NEAR, axis=0)
    return is_near.idxmax(axis=1).map(np.log2)


def _noise_needs_width(rows: pd.DataFrame) -> list[Margin]:
    found = _all_examples(rows)
    return [
        Margin(f"width needed (log2), {noise} - clean", (_needed(found, noise) - _needed(found, CLEAN)).to_numpy(float))
        for noise in (_partial(found, kind)[-1] for kind in KINDS)
    ]


def _slower(found: pd.DataFrame, by: str, what: str) -> list[Margin]:
    """Between the ends of an axis, how much more often time doubles with noise inputs than on clean data.

    by: its column, of which the fast end is the first.  A slow end that never fits with noise counts with its budget,
    which is less than the truth; others that never fit have no result.
    """
    clean = _by_seed(found, CLEAN, "time", by)
    expected = clean.iloc[:, -1] - clean.iloc[:, 0]
    margins = []
    for noise in _partial(found, "gaussian_inputs"):
        slow, fast = _by_seed(found, noise, "least", by).iloc[:, -1], _by_seed(found, noise, "time", by).iloc[:, 0]
        margins.append(Margin(f"{what}, {noise} - clean", (slow - fast - expected).to_numpy(float)))
    return margins


def _width_helps_noise(rows: pd.DataFrame) -> list[Margin]:
    found = _all_examples(rows)
    return _slower(found.assign(narrowness=-found["model_width"]), "narrowness", "epochs, narrowest by widest (log2)")


def _examples_hurt_noise(rows: pd.DataFrame) -> list[Margin]:
    found = _fits(rows)
    sizes = found.groupby("model_width")["data_examples"].nunique()
    if sizes.max() < 2:
        raise MissingTrialsError("no width with several numbers of examples")
    found = found[found["model_width"] == sizes.idxmax()]
    return _slower(found, "data_examples", "epochs, most by fewest examples (log2)")


def _random_labels_take_longer(rows: pd.DataFrame) -> list[Margin]:
    found = _all_examples(rows)
    longer = _by_seed(found, "labels 1", "least", "model_width") - _by_seed(found, CLEAN, "time", "model_width")
    return [
        Margin(f"epochs, random by true labels (log2), width {width}", longer[width].to_numpy(float))
        for width in longer
    ]


# Critical samples.


def _critical(rows: pd.DataFrame, part: str) -> pd.DataFrame:
    """Share of critical samples of trained networks, by noise, seed and step."""
    chosen = rows[(rows["part"] == part) & (rows["radius_multiple"] == MULTIPLE) & (rows["step"] > 0)]
    return _named(chosen.assign(critical=frames.share(chosen["critical_count"], chosen["example_count"])))


def _at_end(rows: pd.DataFrame) -> pd.DataFrame:
    found = _critical(rows, "validation")
    last: pd.DataFrame = found[found["step"] == found["step"].max()]
    return last


def _noise_is_denser(rows: pd.DataFrame) -> list[Margin]:
    found = _at_end(rows)
    return [
        Margin(
            f"critical validation samples (share), {noise} - clean", paired(found, "critical", "noise", noise, CLEAN)
        )
        for noise in NOISES
    ]


def _rises_then_stays(rows: pd.DataFrame) -> list[Margin]:
    found = statistics.by_group(_critical(rows, "validation"), ["noise", "seed"], _rise)
    return [
        part
        for noise in (CLEAN, *NOISES)
        for part in (
            Margin(f"rank correlation with step in the first half, {noise}", _values(found, noise, "rise")),
            Margin(f"a tenth of the first quarter's slope - the last's, {noise}", _values(found, noise, "levels")),
        )
    ]


def _rise(curve: pd.DataFrame) -> dict[str, float]:
    step, share = curve["step"].to_numpy(float), curve["critical"].to_numpy(float)
    part = step / step.max()
    first, last = (np.polyfit(part[which], share[which], 1)[0] for which in (part <= 0.25, part >= 0.75))
    return {"rise": _rank_correlation(step[part <= 0.5], share[part <= 0.5]), "levels": abs(first) / 10 - abs(last)}


def _rises_then_falls(rows: pd.DataFrame) -> list[Margin]:
    found = statistics.by_group(_critical(rows, "train"), ["noise", "seed"], _peak)
    return [
        Margin(
            f"critical training samples (share), peak - {end} - 2 standard errors, {noise}", _values(found, noise, end)
        )
        for noise in (CLEAN, *NOISES)
        for end in ("first", "last")
    ]


def _peak(curve: pd.DataFrame) -> dict[str, float]:
    curve = curve.sort_values("step")
    share = curve["critical"].to_numpy(float)
    variance = share * (1 - share) / curve["example_count"].to_numpy(float)
    peak = int(share.argmax())
    return {
        name: share[peak] - share[end] - 2 * np.sqrt(variance[peak] + variance[end])
        for name, end in (("first", 0), ("last", -1))
    }


def _denser_with_noise(rows: pd.DataFrame) -> list[Margin]:
    found = _at_end(rows)
    steps = [pair for kind in KINDS for pair in zip(_fractions(found, kind), _fractions(found, kind)[1:], strict=False)]
    return [
        Margin(f"critical validation samples (share), {more} - {less}", paired(found, "critical", "noise", more, less))
        for less, more in steps
    ]


def _denser_as_noise_is_fitted(rows: pd.DataFrame) -> list[Margin]:
    named = _named(_shares(rows).assign(critical=frames.share(rows["critical_count"], rows["example_count"])))
    curves = {key: curve.sort_values("epoch") for key, curve in named.groupby(["noise", "seed"])}
    found = pd.DataFrame(
        [
            {"noise": noise, "seed": seed, **_fitting(curve, curves.get((CLEAN, seed)))}
            for (noise, seed), curve in curves.items()
        ]
    )
    return [
        Margin(f"{what}, {noise}", _values(found, noise, column))
        for noise in _fractions(found, "labels")
        for what, column in (
            ("critical validation samples (share), when fitted - at best validation", "rise"),
            ("the same, above the clean run's over these epochs", "excess"),
        )
    ]


def _fitting(curve: pd.DataFrame, clean: pd.DataFrame | None) -> dict[str, float]:
    """Rise from the epoch of best validation to that of fit; NaN where 90 % are never fitted."""
    turns = learning_curves.turns(curve)
    if turns["censored"]:
        return {"rise": np.nan, "excess": np.nan}

    def rise(of: pd.DataFrame) -> float:
        sought = of.dropna(subset="critical")
        at = np.interp([turns[PEAK], turns[FIT]], sought["epoch"], sought["critical"])
        return float(at[1] - at[0])

    return {"rise": rise(curve), "excess": rise(curve) - rise(clean) if clean is not None else np.nan}


# Learning curves.


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    """With the columns that `learning_curves.turns` reads."""
    named = {name: learning_curves.SHARES[name] for name in (VALIDATION, TRAIN)}
    return rows.assign(**{name: frames.share(rows[a], rows[b]) for name, (a, b) in named.items()})


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    return statistics.by_group(_named(_shares(rows)), ["noise", "seed"], _turn)


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


def _noise_costs(rows: pd.DataFrame) -> list[Margin]:
    found = _turned(rows)
    return [
        Margin(
            f"- rank correlation of {which} validation accuracy with the fraction of {KINDS[kind]}",
            -_trend(found, kind, which),
        )
        for kind in KINDS
        for which in ("peak", "final")
    ]


def _patterns_first(rows: pd.DataFrame) -> list[Margin]:
    found = _turned(rows)
    by_noise = [
        part
        for noise in _fractions(found, "labels")
        for part in (
            Margin(
                f"epochs from best validation to fit, {noise}", _values(found, noise, FIT) - _values(found, noise, PEAK)
            ),
            Margin(
                f"validation accuracy lost after its peak, {noise} - clean", paired(found, LOST, "noise", noise, CLEAN)
            ),
            Margin(f"accuracy at the peak, true - wrong labels, {noise}", _values(found, noise, "preferred")),
        )
    ]
    return [*by_noise, Margin("rank correlation of what is lost with the fraction", _trend(found, "labels", LOST))]


# Regularizers.

DROPOUT, BOTH = "dropout", "dropout + adversarial"
TOLERANCE = 0.01
"""Of the share of accuracy kept: what `not less` allows."""


def _is_random(rows: pd.DataFrame) -> pd.Series[bool]:
    """Rows of trials on random labels; the others' are true."""
    is_random = rows["data_noise_fraction"] == 1
    if is_random.all() or not is_random.any():
        raise MissingTrialsError("no trials on both true and random labels")
    return is_random


def _retained(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of each regularizer's best clean validation accuracy that it keeps below a cap; by seed and cap.

    No regularizer counts as strength 0 of each; one that stays above a cap at every strength keeps nothing.
    """
    named, keys = regularization.named(rows), ["seed", "regularizer", "strength"]
    random = _is_random(named)
    fitted = frames.share(named["train_correct_count"], named["train_count"])
    clean = frames.share(named["validation_correct_count"], named["validation_count"])
    points = named.assign(fitted=fitted.where(random), clean=clean.where(~random))
    points = points.groupby(keys)[["fitted", "clean"]].mean().dropna().reset_index()
    found = []
    for seed, own in points.groupby("seed"):
        none = own["regularizer"] == regularization.NONE
        for name in sorted(set(own.loc[~none, "regularizer"])):
            along = own[none | (own["regularizer"] == name)]
            for cap in regularization.CAPS:
                kept = along.loc[along["fitted"] <= cap, "clean"].max() / along["clean"].max()
                found.append({"seed": seed, "cap": cap, "regularizer": name, "kept": np.nan_to_num(kept)})
    return pd.DataFrame(found, columns=["seed", "cap", "regularizer", "kept"])


def _dropout_keeps_most(rows: pd.DataFrame) -> list[Margin]:
    found = _retained(rows)
    others = sorted(set(found["regularizer"]) - {DROPOUT, BOTH})
    comparisons = [*((DROPOUT, other, 0.0) for other in others), (BOTH, DROPOUT, -TOLERANCE)]
    return [
        Margin(
            f"share of clean accuracy kept while at most {cap:.0%} of random labels are fitted, {more} - {less}",
            paired(below, "kept", "regularizer", more, less),
            bound,
        )
        for cap, below in found.groupby("cap")
        for more, less, bound in comparisons
    ]


def _slowed(rows: pd.DataFrame) -> list[Margin]:
    named = regularization.named(_shares(rows))
    keys = ["regularizer", "strength", "seed"]
    is_random = _is_random(named)
    sides = {
        side: statistics.by_group(named[which], keys, _course).set_index(keys)
        for side, which in (("random", is_random), ("real", ~is_random))
    }
    return [
        Margin("rise of epochs to fit 90 % (log, mean over regularizers), random - real", _rise_of_time(**sides)),
        Margin(
            "agreement (Kendall) of a seed's order of settings by loss with other seeds', on real - on random labels",
            _agreement(**sides),
        ),
    ]


def _course(curve: pd.DataFrame) -> dict[str, float]:
    curve = curve.sort_values("epoch")
    loss = curve["train_loss_sum_nats"] / curve["train_count"]
    turns = learning_curves.turns(curve)
    return {
        "time": turns[FIT],
        "censored": turns["censored"],
        "clean": curve[VALIDATION].iloc[-1],
        "loss": loss.iloc[-1],
    }


def _rise_of_time(random: pd.DataFrame, real: pd.DataFrame) -> np.ndarray:
    """[S]: log(T / T without), on random minus real labels, of each regularizer's strength that validates best.

    A training on random labels that never fits counts with its length, which is less than the truth; on real labels,
    and without regularizer, one that never fits has no result.
    """
    clean = real.groupby(["regularizer", "strength"])["clean"].mean().drop(regularization.NONE, errors="ignore")
    log_real = np.log(real["time"]).where(real["censored"] == 0).unstack("seed")
    log_random = np.log(random["time"]).unstack("seed")
    none = (regularization.NONE, 0.0)
    if none not in log_real.index or none not in log_random.index or clean.empty:
        raise MissingTrialsError("no trials with and without a regularizer")
    without = np.log(random["time"]).where(random["censored"] == 0).unstack("seed").loc[none] - log_real.loc[none]
    best = list(clean.groupby("regularizer").idxmax())
    return np.asarray(((log_random - log_real).reindex(best) - without).mean(), float)


def _agreement(random: pd.DataFrame, real: pd.DataFrame) -> np.ndarray:
    """[S]: a seed's order of settings by training loss on real labels against the other seeds' mean order."""
    losses = {name: side["loss"].unstack("seed") for name, side in (("random", random), ("real", real))}
    found = []
    for seed in losses["real"]:
        own = losses["real"][seed]
        agreed = [
            stats.kendalltau(
                own, losses[name].drop(columns=seed, errors="ignore").mean(axis=1).reindex(own.index), nan_policy="omit"
            ).statistic
            for name in ("real", "random")
        ]
        found.append(agreed[0] - agreed[1])
    return np.array(found, float)


_CRITICAL = f"in {MULTIPLE:g} times the paper's box"
_BY_SEED = "sign test over seeds"

PAPER = Paper(
    "arpit2017",
    "Arpit et al. (2017), A Closer Look at Memorization in Deep Networks",
    "The whole text was read; of the figures only captions and what the text says of them, so that no curve's value is "
    "known, and the paper has no tables, error bars or tests.",
    (
        Claim(
            1,
            "After one epoch, some real examples are nearly always right and others nearly always wrong; with random "
            "labels this is less so, though more than by chance; noise inputs are all equally hard.",
            Basis.CONFIRMED,
            "Dispersion: variance over examples of the share of runs in which an example is right, within classes, "
            "by that of equally hard examples given each run's accuracy in a class. Real above random labels, these "
            "above 1, noise inputs between 0.8 and 1.5 (bounds ours; the paper compares curves with binomial draws). "
            f"Bootstrap over examples, {RUN_COUNT} runs on the same data.",
            ("learning_order",),
            _dispersion,
            RUNS,
            replicates=RUN_COUNT,
        ),
        Claim(
            2,
            "Loss sensitivity is less equal among real examples than among random inputs.",
            Basis.CONFIRMED,
            "Difference of Gini coefficients of the L1 norms, mean over the second half of training, above 0 (the "
            f"paper's comparison, of curves); {_BY_SEED}.",
            ("loss_sensitivity",),
            lambda rows: _gini(rows, "task"),
            LOSS_SENSITIVITY,
            NOISE,
            REPLICATES,
        ),
        Claim(
            3,
            "That holds when every example is a class of its own, too.",
            Basis.CONFIRMED,
            f"As claim 2, with a class an example; {_BY_SEED}.",
            ("loss_sensitivity",),
            lambda rows: _gini(rows, "unique"),
            LOSS_SENSITIVITY,
            NOISE,
            REPLICATES,
        ),
        Claim(
            4,
            "A class's loss depends most on inputs of its own, and on real data more on those of other classes than on "
            "random inputs.",
            Basis.CONFIRMED,
            "Share of the class-by-class map off its diagonal, real - random inputs, above 0; mean on the diagonal "
            f"above the mean off it in both (statistics ours: the paper shows maps); {_BY_SEED}.",
            ("loss_sensitivity",),
            _cross_class,
            class_sensitivity.QUERY,
            NOISE,
            REPLICATES,
        ),
        Claim(
            5,
            "The best validation accuracy needs more units when a part of the training set is noise.",
            Basis.CONFIRMED,
            "Smallest width within half a point of a seed's best validation accuracy (until all is fitted), at the "
            "largest partial fraction of noise above that on clean data, for noise inputs and random labels (statistic "
            f"and half a point ours); {_BY_SEED}.",
            ("noise_capacity",),
            _noise_needs_width,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            6,
            "Width shortens the fitting of noise more than that of real data.",
            Basis.CONFIRMED,
            "Epochs until all training examples are right, narrowest by widest network, above that ratio on clean "
            f"data, at each partial fraction of noise inputs (statistic ours: the paper shows curves); {_BY_SEED}.",
            ("noise_capacity",),
            _width_helps_noise,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            7,
            "More examples lengthen the fitting of noise more than that of real data.",
            Basis.CONFIRMED,
            "Epochs until all training examples are right, most by fewest examples, above that ratio on clean data, at "
            f"each partial fraction of noise inputs (statistic ours: the paper shows curves); {_BY_SEED}.",
            ("noise_capacity",),
            _examples_hurt_noise,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            8,
            "Random labels take longer to fit than true ones.",
            Basis.CONFIRMED,
            "Epochs until all training examples are right, random by true labels, above 1 at every width with all "
            "examples (the paper says it of noise in general; its workshop paper's abstract says the opposite of noise "
            f"inputs, which are not tested); {_BY_SEED}.",
            ("noise_capacity",),
            _random_labels_take_longer,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            9,
            "Networks that fit noise inputs or random labels have more critical samples around validation examples.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL} at the end of training, noise - clean, above 0 for both kinds (the "
            f"paper's comparison); {_BY_SEED}.",
            ("critical_samples",),
            _noise_is_denser,
            CRITICAL_SAMPLES,
            NOISE,
            REPLICATES,
        ),
        Claim(
            10,
            "Critical samples around validation examples become more, then stay as many, on real data and noise.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL}: rank correlation with the step above 0 in the first half of "
            "training, slope in the last quarter below a tenth of that in the first (statistics ours), on clean data, "
            f"noise inputs and random labels; {_BY_SEED}.",
            ("critical_samples",),
            _rises_then_stays,
            CRITICAL_SAMPLES,
            replicates=REPLICATES,
        ),
        Claim(
            11,
            "Critical samples around training examples become more, then fewer.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL}: its peak lies above the first share and the last by more than 2 "
            "binomial standard errors of the difference (threshold ours), on clean data, noise inputs and random "
            f"labels; {_BY_SEED}.",
            ("critical_samples",),
            _rises_then_falls,
            CRITICAL_SAMPLES,
            replicates=REPLICATES,
        ),
        Claim(
            12,
            "The more of the training set is noise, the more critical samples are around validation examples.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL} at the end, from each of the fractions 0.2, 0.4, 0.6, 0.8 to the "
            "next, above 0, for noise inputs and random labels (the paper's comparison; steps between neighbours, "
            f"since four fractions have a rank correlation above 0.9 only in full order); {_BY_SEED}.",
            ("critical_samples",),
            _denser_with_noise,
            CRITICAL_SAMPLES,
            NOISE,
            REPLICATES,
        ),
        Claim(
            13,
            "The more of the training set is noise, the lower is validation accuracy, at its peak and at the end.",
            Basis.CONFIRMED,
            "Rank correlation of a seed's validation accuracy with the fractions 0.2 to 0.8 below 0, at the peak and "
            f"at the end, for noise inputs and random labels (statistic ours); {_BY_SEED}.",
            ("learning_curves",),
            _noise_costs,
            frames.STEPS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            14,
            "With random labels, validation accuracy peaks before the training set is fitted, and then falls, the more "
            "the more labels are random; at the peak true labels are fitted better than wrong ones.",
            Basis.CONFIRMED,
            "At each fraction from 0.2 to 0.8: best validation accuracy before training accuracy is 0.9; accuracy lost "
            "from there to the end above what the clean run loses (a peak is a maximum, so something is always lost); "
            "accuracy at the peak on true above that on wrong labels (ours). What is lost rises with the fraction "
            f"(rank correlation). A set that is never fitted counts as fitted at the end; {_BY_SEED}.",
            ("learning_curves",),
            _patterns_first,
            frames.STEPS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            15,
            "Critical samples become more while random labels are fitted.",
            Basis.CONFIRMED,
            f"Share of critical validation samples {_CRITICAL}, at the first epoch with training accuracy 0.9 minus at "
            "that of best validation accuracy (interpolated between the epochs at which they are sought), above 0 and "
            f"above the clean run's rise over these epochs, at each fraction from 0.2 to 0.8 (statistic ours); "
            f"{_BY_SEED}.",
            ("critical_samples",),
            _denser_as_noise_is_fitted,
            FITTING,
            NOISE,
            REPLICATES,
        ),
        Claim(
            16,
            "Dropout prevents memorization at the least cost among single regularizers; with adversarial training it "
            "does no worse.",
            Basis.CONFIRMED,
            "Share of its best clean validation accuracy that a regularizer keeps at strengths at which at most 30, "
            "50, 70 % of random labels are fitted: dropout above each other single one, dropout with adversarial "
            f"training above dropout less {TOLERANCE:g} (caps and tolerance ours); {_BY_SEED}.",
            ("regularization",),
            _dropout_keeps_most,
            frames.TRIALS,
            ("data_noise_fraction",),
            REPLICATES,
        ),
        Claim(
            17,
            "Regularizers slow memorization more than learning, and order differently on random labels by their "
            "training loss.",
            Basis.CONFIRMED,
            "Epochs until training accuracy is 0.9, by those without regularizer: on random labels above that on true "
            "ones, mean over regularizers of the logarithm, each at the strength of best mean validation accuracy. "
            "Kendall's tau of a seed's order of settings by final training loss on true labels with the other seeds' "
            f"mean order: on true above on random labels (statistics ours); {_BY_SEED}.",
            ("regularization",),
            _slowed,
            frames.STEPS,
            ("data_noise_fraction",),
            REPLICATES,
        ),
    ),
)
