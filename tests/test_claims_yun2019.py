"""Each claim of Yun et al. (2019) on trials made up so that it holds, and so that it fails."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import controls, verdicts, yun2019
from memsweep.analysis.claims.claim import ImpossibleError, MissingTrialsError
from memsweep.analysis.claims.verdicts import Verdict
from memsweep.analysis.core import figures, interactive
from memsweep.analysis.questions import construction, least_width, memorizer_width, sgd_near_memorizer
from memsweep.spec.config import FIELDS
from memsweep.spec.sweep_files import load_sweep
from tests.claims import sides

SWEEPS = {name: load_sweep(name) for name in ("construction", "least_width", "memorizer_width", "sgd_near_memorizer")}


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


def stored(sweep, held, error=lambda config: 0.0):
    """A sweep's trials as they would be stored if each held this share of its labels. held, error: of a trial."""
    rows = []
    for config, columns in zip(SWEEPS[sweep].trials, fields(sweep), strict=True):
        share, count = held(config), config.data.examples
        classes = config.data.classes or 2
        rows.append(
            {
                **columns,
                "status": "finished",
                "sweep": sweep,
                "class_count": classes,
                "parameter_count": parameters(config.model.depth, config.model.width),
                "train_count": count,
                "train_correct_count": count * share,
                "train_loss_sum_nats": count * (np.log1p((classes - 1) / np.e) + error(config)),
                "fitted_step": 5 if share == 1 else np.nan,
            }
        )
    return pd.DataFrame(rows)


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


def bisected(rows):
    """Of each network the set sizes that the sweep's search tries: each is chosen by whether the last was fitted."""
    tried = []
    for _, sizes in rows.sort_values("data_examples").groupby(["data_task", "model_depth", "model_width", "seed"]):
        low, high = -1, len(sizes)
        while high - low > 1:
            middle = (low + high) // 2
            tried.append(sizes.index[middle])
            low, high = (middle, high) if pd.notna(sizes["fitted_step"].iloc[middle]) else (low, middle)
    return rows.loc[tried]


def lawful(depth, width):
    return 3.5 * width if depth == 1 else 1.2 * (depth - 1) * width**2


def needed(two=lambda k: 6.5 * k**0.5, three=lambda k: 17, dimension=lambda d: 80 / d, hardtanh=10, relu=15, leaky=15):
    """Networks that fit all labels from these widths on."""

    def width(config):
        if config.optimizer.objective == "squared":
            return (two if config.model.depth == 2 else three)(config.data.classes)
        if config.model.depth == 1:
            return dimension(config.data.input_dim)
        return {"hardtanh": hardtanh, "relu": relu, "leaky_relu": leaky}[config.model.activation]

    return stored("least_width", lambda config: 1.0 if config.model.width >= width(config) else 0.5)


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
        (constructed(), Verdict.HOLDS),
        (constructed(0.99), Verdict.FAILS),
        (constructed(error=lambda c: 1e-3), Verdict.FAILS),
    ],
    2: [(trained(lawful), Verdict.HOLDS)],
    3: [
        (trained(lawful), TRUE),
        (trained(parameters), TRUE),  # of which the slope is 1.65 with two hidden layers
        (trained(lambda depth, width: 6 * width), FALSE),
    ],
    4: [
        (trained(lawful), TRUE),
        (trained(lambda depth, width: 0), FALSE),
        (trained(lawful, lambda depth, width: width**2 / 2 if depth == 2 else 2), FALSE),
    ],
    5: [(trained(lawful), TRUE), (trained(lambda depth, width: 1200 / (depth - 0.9)), FALSE)],
    6: [
        (needed(), TRUE),
        (needed(two=lambda k: 17, three=lambda k: 6.5 * k**0.5), FALSE),
        (needed(two=lambda k: 16 * k**0.1), FALSE),
    ],
    7: [
        (needed(), TRUE),
        (needed(dimension=lambda d: 18 / d**0.25), FALSE),
        (needed(dimension=lambda d: 195 / d**1.4), FALSE),
    ],
    8: [(needed(), TRUE), (needed(hardtanh=19), FALSE), (needed(hardtanh=8, relu=19), FALSE)],
    9: [
        (beside(), TRUE),
        (beside(start=3.0, least=5.0), FALSE),
        (beside(soon=0.2), FALSE),
        (beside(least=2.0), FALSE),
        (beside(far=2.5), FALSE),
    ],
    10: [(constructed(), TRUE), (constructed(single=lambda examples: 0.1 + examples / 1e5), FALSE)],
}


def _tables(cases):
    first = {expected: rows for rows, expected in reversed(cases)}
    return sides(lambda: first[TRUE], lambda: first[FALSE])


TABLES = {number: _tables(cases) for number, cases in CASES.items() if number > 2}


@pytest.mark.parametrize(
    ("number", "case"), [(number, case) for number, cases in CASES.items() for case in range(len(cases))]
)
def test_a_claim_holds_or_fails(number, case):
    rows, expected = CASES[number][case]
    assert verdict(number, rows) == expected


def test_what_has_no_linear_pieces_for_it_is_an_error_of_the_program():
    with pytest.raises(ImpossibleError, match="linear pieces"):
        verdict(2, trained(lawful, lambda depth, width: 10**6))


def test_precision_that_is_lost_for_some_classes_alone_is_undecided():
    rows = constructed()
    rows.loc[(rows["compute_dtype"] == "float32") & (rows["seed"] < 5), "train_correct_count"] = rows["train_count"]
    assert verdict(10, rows) == Verdict.UNDECIDED


@pytest.mark.parametrize("number", [6, 7, 8])
def test_least_widths_that_lie_beyond_the_grid_leave_a_claim_without_trials(number):
    rows = needed(two=lambda k: 99, three=lambda k: 99, dimension=lambda d: 999, hardtanh=99)
    with pytest.raises(MissingTrialsError, match="fewer than 3"):
        yun2019.PAPER.claims[number - 1].measure(rows)
    assert verdict(number, rows) == Verdict.NOT_RUN


def test_a_least_width_is_known_where_narrower_networks_do_not_fit():
    found = least_width.least(needed(relu=1)).query("block == 'activation' and seed == 12").set_index("activation")
    assert found.loc["hardtanh", "width"] == 10 and np.isnan(found.loc["relu", "width"])
    rows = needed()
    is_gap = (rows["model_activation"] == "hardtanh") & (rows["model_width"] == 6)
    gap = least_width.least(rows.assign(status=rows["status"].mask(is_gap, "failed")))
    assert gap.query("activation == 'hardtanh'")["width"].isna().all()


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_trials_of_other_settings_are_missing(number):
    rows = trained(lawful)
    other = rows[(rows["data_task"] == "gaussian") & (rows["model_depth"] == 2) & (rows["model_width"] < 10)]
    assert verdict(number, other) == Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("number", "rows"),
    [
        (3, bisected(trained(lawful))),
        (4, bisected(trained(lawful))),
        (6, needed()),
        (7, needed()),
        (8, needed()),
        (9, beside()),
        (10, constructed()),
    ],
)
def test_exchanged_settings_are_hardly_ever_reproduced(number, rows):
    claim = yun2019.PAPER.claims[number - 1]
    rate = controls.reproduced_by_chance(claim, rows, np.random.default_rng(number), shuffles=4)
    assert rate <= 1 / 4


# Figures of the two sweeps.


@pytest.mark.parametrize(
    ("module", "rows"),
    [
        (construction, constructed()),
        (memorizer_width, trained(lawful)),
        (sgd_near_memorizer, beside()),
        (least_width, needed()),
    ],
)
def test_every_figure_shows_something_and_says_where_nothing_is(module, rows):
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
