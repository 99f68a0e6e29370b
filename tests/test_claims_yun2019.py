"""Each claim of Yun et al. (2019) on trials made up so that it holds, and so that it fails."""

from functools import cache, partial

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import controls, nulls, verdicts, yun2019
from memsweep.analysis.claims.claim import ImpossibleError, MissingTrialsError
from memsweep.analysis.claims.verdicts import Verdict
from memsweep.analysis.core import figures, interactive
from memsweep.analysis.questions import construction, largest_set, memorizer_width, sgd_near_memorizer
from memsweep.spec.config import FIELDS
from memsweep.spec.sweep_files import load_sweep
from tests.claims import sides

SWEEPS = {name: load_sweep(name) for name in ("construction", "largest_set", "memorizer_width", "sgd_near_memorizer")}


@cache
def fields(sweep):
    """Columns of a sweep's trials."""
    return [
        {**{FIELDS[name].column: value for name, value in config.flat().items()}, "trial_id": config.trial_id}
        for config in SWEEPS[sweep].trials
    ]


def parameters(depth, width, inputs=4, classes=2):
    """Of an MLP with biases."""
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * classes


@cache
def columns(sweep):
    """What the trials of a sweep store whatever they learn."""
    configs = SWEEPS[sweep].trials
    return pd.DataFrame(fields(sweep)).assign(
        status="finished",
        sweep=sweep,
        class_count=[config.data.classes or 2 for config in configs],
        parameter_count=[parameters(config.model.depth, config.model.width) for config in configs],
        train_count=[config.data.examples for config in configs],
    )


def stored(sweep, held, error=lambda config: 0.0):
    """A sweep's trials as they would be stored if each held this share of its labels. held, error: of a trial."""
    rows, configs = columns(sweep), SWEEPS[sweep].trials
    shares = pd.Series([held(config) for config in configs])
    losses = np.log1p((rows["class_count"] - 1) / np.e) + [error(config) for config in configs]
    return rows.assign(
        train_correct_count=rows["train_count"] * shares,
        train_loss_sum_nats=rows["train_count"] * losses,
        fitted_step=np.where(shares == 1, 5, np.nan),
    )


def verdict(number, rows):
    """Of this claim, tested alone."""
    claim = yun2019.PAPER.claims[number - 1]
    return verdicts.judge_paper(
        verdicts.Paper("p", "", "", (claim,)), lambda query, sweep: rows[rows["sweep"] == sweep]
    )["verdict"].iloc[0]


def constructed(exact=1.0, single=lambda examples: 500 / examples, **error):
    def held(config):
        is_single = config.compute.dtype == "float32" and config.data.examples >= 1000
        return single(config.data.examples) if is_single else exact

    return stored("construction", held, **error)


def trained(random, alternating=lambda depth, width: width):
    """What a network of so many layers and units fits, on either task."""

    def held(config):
        fits = alternating if config.data.task == "alternating" else random
        return 1.0 if config.data.examples <= fits(config.model.depth, config.model.width) else 0.5

    return stored("memorizer_width", held)


NETWORK = [
    *("data_task", "data_classes", "data_input_dim", "optimizer_objective"),
    *("model_activation", "model_depth", "model_width"),
]


def bisected(rows):
    """Of each network the set sizes that the sweep's search tries: each is chosen by whether the last was fitted."""
    tried = []
    for _, sizes in rows.sort_values("data_examples").groupby([*NETWORK, "seed"]):
        low, high = -1, len(sizes)
        while high - low > 1:
            middle = (low + high) // 2
            tried.append(sizes.index[middle])
            low, high = (middle, high) if pd.notna(sizes["fitted_step"].iloc[middle]) else (low, middle)
    return rows.loc[tried]


def lawful(depth, width):
    return 3.5 * width if depth == 1 else 1.2 * (depth - 1) * width**2


def labels(two=lambda k: 600 / k, three=lambda k: 300, inputs=lambda d: 4 * d, hardtanh=400, relu=180, leaky=180):
    """What a network fits: by classes with two and three hidden layers, by inputs with one, and by nonlinearity."""

    def fits(config):
        if config.optimizer.objective == "squared":
            return (two if config.model.depth == 2 else three)(config.data.classes)
        if config.model.depth == 1:
            return inputs(config.data.input_dim)
        return {"hardtanh": hardtanh, "relu": relu, "leaky_relu": leaky}[config.model.activation]

    return stored("largest_set", lambda config: 1.0 if config.data.examples <= fits(config) else 0.5)


def beside(start=2.0, soon=0.05, least=4.0, far=1.0):
    """Curves of trials beside zero loss: losses like powers of the perturbation, `soon` of the first in two epochs."""
    rows = []
    for config, columns in zip(SWEEPS["sgd_near_memorizer"].trials, fields("sgd_near_memorizer"), strict=True):
        rho, rate = config.model.perturbation, config.optimizer.learning_rate
        noise = np.exp(0.01 * np.random.default_rng(config.seed).standard_normal())
        first = noise * rho**start
        losses = {1: first * soon, 2: first * soon * 1.5, config.optimizer.epochs: 0.04 * noise * rho**least}
        row = {**columns, "status": "finished", "sweep": "sgd_near_memorizer", "train_count": 16}
        for epoch, loss in losses.items() if rate else {1: first}.items():
            slow = 2 if 0 < rate < 0.01 else 1  # other rates find less
            at = {"step": 16 * epoch, "epoch": float(epoch), "distance": (far if rate else 1) * rho}
            rows.append({**row, **at, "train_loss_sum_nats": 16 * loss * slow})
    return pd.DataFrame(rows)


TRUE, FALSE = Verdict.REPRODUCED, Verdict.CONTRADICTED
CASES = {
    1: [
        (constructed, Verdict.HOLDS),
        (partial(constructed, 0.99), Verdict.FAILS),
        (partial(constructed, error=lambda c: 1e-3), Verdict.FAILS),
    ],
    2: [(partial(trained, lawful), Verdict.HOLDS)],
    3: [
        (partial(trained, lawful), TRUE),
        (partial(trained, parameters), TRUE),  # of which the slope is 1.65 with two hidden layers
        (partial(trained, lambda depth, width: 6 * width), FALSE),
    ],
    4: [
        (partial(trained, lawful), TRUE),
        (partial(trained, lambda depth, width: 0), FALSE),
        (partial(trained, lawful, lambda depth, width: width**2 / 2 if depth == 2 else 2), FALSE),
    ],
    5: [(partial(trained, lawful), TRUE), (partial(trained, lambda depth, width: 1200 / (depth - 0.9)), FALSE)],
    6: [
        (labels, TRUE),
        (partial(labels, two=lambda k: 500 / np.log2(k)), TRUE),  # as many bits of labels
        (partial(labels, two=lambda k: 300, three=lambda k: 600 / k), FALSE),
        (partial(labels, two=lambda k: 300 / k**0.2), FALSE),
    ],
    7: [
        (labels, TRUE),
        (partial(labels, inputs=lambda d: parameters(1, 4, d)), TRUE),  # of which the slope is 0.92
        (partial(labels, inputs=lambda d: 30 * d**0.5), FALSE),
        (partial(labels, inputs=lambda d: d**1.5), FALSE),
    ],
    8: [
        (labels, TRUE),
        (partial(labels, hardtanh=4 * 180), TRUE),  # as constructions do
        (partial(labels, hardtanh=100), FALSE),
        (partial(labels, hardtanh=7 * 180), FALSE),
    ],
    9: [
        (beside, TRUE),
        (partial(beside, start=3.0, least=5.0), FALSE),
        (partial(beside, soon=0.2), FALSE),
        (partial(beside, least=2.0), FALSE),
        (partial(beside, far=2.5), FALSE),
    ],
    10: [(constructed, TRUE), (partial(constructed, single=lambda examples: 0.1 + examples / 1e5), FALSE)],
}


def _tables(cases):
    first = {expected: made for made, expected in reversed(cases)}
    return sides(first[TRUE], first[FALSE])


TABLES = {number: _tables(cases) for number, cases in CASES.items() if number > 2}


@pytest.mark.parametrize(
    ("number", "case"), [(number, case) for number, cases in CASES.items() for case in range(len(cases))]
)
def test_a_claim_holds_or_fails(number, case):
    made, expected = CASES[number][case]
    assert verdict(number, made()) == expected


def test_what_has_no_linear_pieces_for_it_is_an_error_of_the_program():
    with pytest.raises(ImpossibleError, match="linear pieces"):
        verdict(2, trained(lawful, lambda depth, width: 10**6))


def test_precision_that_is_lost_for_some_classes_alone_is_undecided():
    rows = constructed()
    rows.loc[(rows["compute_dtype"] == "float32") & (rows["seed"] < 5), "train_correct_count"] = rows["train_count"]
    assert verdict(10, rows) == Verdict.UNDECIDED


@pytest.mark.parametrize("number", [6, 7, 8])
@pytest.mark.parametrize("size", [0, 10**6])
def test_largest_sets_beyond_the_sizes_leave_a_claim_without_trials(number, size):
    rows = labels(lambda k: size, lambda k: size, lambda d: size, hardtanh=size)
    with pytest.raises(MissingTrialsError, match="fewer than 3"):
        yun2019.PAPER.claims[number - 1].measure(rows)
    assert verdict(number, rows) == Verdict.NOT_RUN


def test_a_largest_set_is_known_where_a_larger_one_is_not_fitted():
    sets = largest_set.largest(labels(relu=10**6, leaky=0)).query("block == 'activation' and seed == 24")
    sizes = sets.set_index("activation")["fitted_size"]
    assert sizes["hardtanh"] == 380 and np.isnan(sizes["relu"]) and np.isnan(sizes["leaky_relu"])


def networks(rows):
    """The network of each trial of the sweep, as one text."""
    return rows[NETWORK].astype(str).apply("/".join, axis=1)


@pytest.mark.parametrize("number", [6, 7, 8])
def test_whole_networks_are_exchanged_where_sizes_were_bisected(number):
    """Exchanged one by one, the sizes that each network was given would still show what it fits."""
    claim, rows = yun2019.PAPER.claims[number - 1], bisected(labels())
    assert verdict(number, rows) == TRUE
    changed = nulls.shuffled(rows, claim.shuffled, np.random.default_rng(number), claim.searched)
    before, after = networks(rows), networks(changed)
    assert (after != before).any()
    assert (after.groupby([before, rows["seed"]]).nunique() == 1).all()
    assert (before.groupby([after, rows["seed"]]).nunique() == 1).all()
    assert verdict(number, changed) != TRUE


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_trials_of_other_settings_are_missing(number):
    rows = trained(lawful)
    other = rows[(rows["data_task"] == "gaussian") & (rows["model_depth"] == 2) & (rows["model_width"] < 10)]
    assert verdict(number, other) == Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("number", "made"),
    [
        (3, lambda: bisected(trained(lawful))),
        (4, lambda: bisected(trained(lawful))),
        (6, labels),
        (7, labels),
        (8, labels),
        (9, beside),
        (10, constructed),
    ],
)
def test_exchanged_settings_are_hardly_ever_reproduced(number, made):
    claim = yun2019.PAPER.claims[number - 1]
    rate = controls.reproduced_by_chance(claim, made(), np.random.default_rng(number), shuffles=4)
    assert rate <= 1 / 4


# Figures of the two sweeps.


@pytest.mark.parametrize(
    ("module", "made"),
    [
        (construction, constructed),
        (memorizer_width, partial(trained, lawful)),
        (sgd_near_memorizer, beside),
        (largest_set, labels),
    ],
)
def test_every_figure_shows_something_and_says_where_nothing_is(module, made):
    rows = made()
    summary, nothing = module.summarize(rows), module.summarize(rows.assign(status="failed"))
    for figure in module.FIGURES:
        with figures.canvas() as ax:
            figure.draw(summary, ax)
            assert ax.lines and interactive.describe(ax)
        if len(nothing):
            with figures.canvas() as ax:
                figure.draw(nothing, ax)
                assert "no finished trial" in ax.texts[0].get_text()


def test_a_seed_shows_the_rate_that_finds_the_least_loss():
    found = sgd_near_memorizer.of_seeds(beside()).query("seed == 12").set_index("perturbation")
    assert (found["rate"] >= 0.01).all() and found["farthest"].to_numpy() == pytest.approx(1.0)
    assert (found["soon"] / found["start"]).drop(1.0).to_numpy() == pytest.approx(0.05)


def test_a_perturbation_whose_runs_failed_leaves_the_claim_without_those_seeds():
    rows = beside()
    failed = (rows["seed"] < 27) & (rows["model_perturbation"] == 0.1) & (rows["optimizer_learning_rate"] > 0)
    assert verdict(9, rows[~failed]) == Verdict.UNDECIDED
    summary = sgd_near_memorizer.summarize(rows.assign(status=rows["status"].where(~failed, "failed")))
    least = summary[(summary["when"] == "least in the run") & (summary["perturbation"] == 0.1)]
    assert least["missing"].item() == 15 and least["seeds"].item() == 9


def test_the_largest_set_is_that_which_is_fitted():
    summary = memorizer_width.summarize(trained(lawful)).set_index(["task", "depth", "width"])["estimate"]
    assert summary["gaussian", 2, 16] == 290 and summary["gaussian", 1, 8] == 27 and summary["alternating", 2, 8] == 8
    equal = memorizer_width.summarize(trained(lawful)).query("is_equal")
    assert set(zip(equal["depth"], equal["width"], strict=True)) == {(2, 24), (3, 17), (4, 14), (5, 12)}
