"""Claims of Morris et al. 2025 on made-up strings: what reproduces each, what contradicts it, and what is drawn."""

import numpy as np
import pytest

from memsweep.analysis.claims.morris2025 import PAPER
from memsweep.analysis.claims.verdicts import Verdict
from memsweep.analysis.core import figures
from memsweep.analysis.questions import string_capacity
from tests.claims import judged, seeds_of, sides
from tests.test_analysis import drawn, only, trials

SEEDS = range(seeds_of("string_capacity"))
RATIOS = (0.25, 0.5, 1, 2, 4, 8)


def strings(
    held=lambda offered: np.minimum(0.99 * offered, 2.4),
    unseen=lambda offered: 6 - np.log2(offered / 2.4) ** 2,
    power=1.0,
):
    """Trials of three widths; held, unseen: bits of the set a parameter -> bits held a parameter, held-out loss.

    power: log-log slope of bits in parameters.
    """
    rng, rows = np.random.default_rng(0), []
    for width, parameters in ((8, 3200), (12, 6400), (16, 12800)):
        for ratio in RATIOS:
            for seed in SEEDS:
                examples = round(ratio * parameters / 32)
                offered = float(string_capacity.most_bits(examples, 8, 16)) / parameters
                bits = held(offered) * parameters * (parameters / 6400) ** (power - 1) * (1 - 0.01 * rng.random())
                nats = (unseen(offered) + 0.1 * rng.normal() + 4) * np.log(2)
                rows.append(
                    {
                        **{"data_task": "strings", "data_sequence_length": 8, "data_vocabulary": 16, "seed": seed},
                        **{"model_width": width, "parameter_count": parameters, "data_examples": examples},
                        **{"train_count": examples, "train_loss_sum_nats": (32 * examples - bits) * np.log(2)},
                        **{"validation_target_count": 1024, "validation_loss_sum_nats": 1024 * nats},
                    }
                )
    return trials(*rows)


def growing(offered):
    return 0.8 * offered


def untrained(offered):
    """A network before training is slightly worse than guessing."""
    return -0.01 * offered


TABLES = {
    1: sides(strings, lambda: strings(growing)),
    2: sides(strings, lambda: strings(power=0.7)),
    3: sides(strings, lambda: strings(lambda offered: np.minimum(0.99 * offered, 1.2))),
    4: sides(strings, lambda: strings(unseen=lambda offered: 2 + np.log2(offered))),
}
"""Number of a finding -> function of a side, as `tests.test_verdicts` reads it."""


@pytest.mark.parametrize("number", TABLES)
def test_networks_before_training_reproduce_nothing(number):
    rows = strings(untrained, lambda offered: 0.0)
    assert judged(PAPER, number, rows)["verdict"] != Verdict.REPRODUCED


def test_bits_above_four_contradict_the_third_claim():
    assert judged(PAPER, 3, strings(lambda offered: np.minimum(offered, 5.0)))["verdict"] == Verdict.CONTRADICTED
    row = judged(PAPER, 3, strings()[lambda rows: rows["data_examples"] <= 3 * rows["parameter_count"] / 32])
    assert row["verdict"] == Verdict.NOT_RUN and "more than 4 bits" in row["reason"]


def test_a_loss_that_is_largest_at_the_smallest_set_contradicts_the_fourth_claim():
    row = judged(PAPER, 4, strings(unseen=lambda offered: 2 - np.log2(offered)))
    assert row["verdict"] == Verdict.CONTRADICTED and "smallest" in row["measured"]


def test_a_capacity_at_the_edge_of_the_sets_decides_nothing():
    row = judged(PAPER, 4, strings(growing))
    assert row["verdict"] == Verdict.NOT_RUN and "nearest to its capacity" in row["reason"]


# The figures.


def test_bits_capacity_and_held_out_loss_are_means_over_seeds():
    summary = string_capacity.summarize(strings(lambda offered: np.minimum(offered, 3.0), lambda offered: offered))
    of = {"model_width": 8, "quantity": string_capacity.CAPACITY}
    assert only(summary, **of)["estimate"] == pytest.approx(3 * 3200, rel=0.01)
    per_parameter = only(summary, **{**of, "quantity": string_capacity.PER_PARAMETER})
    assert per_parameter["low"] < per_parameter["estimate"] < per_parameter["high"] <= 3
    largest = only(summary, model_width=8, quantity=string_capacity.HELD_OUT, data_examples=800)
    offered = 8 * (32 - np.log2(800)) / 32  # which of the 800 strings comes costs log2 800 bits each
    assert (largest["estimate"], largest["seeds"]) == (pytest.approx(offered, abs=0.2), len(SEEDS))
    assert largest[string_capacity.OFFERED] == pytest.approx(offered)
    assert largest[string_capacity.FILLED] == pytest.approx(offered / 3, rel=0.01)
    exponent = only(summary, quantity=string_capacity.SLOPE)
    assert exponent["estimate"] == pytest.approx(1, abs=0.01) and exponent["low"] < 1 < exponent["high"] + 0.01


def test_what_is_missing_is_a_hole():
    rows = strings().assign(status=lambda rows: np.where(rows["data_examples"] == 800, "failed", "finished"))
    summary = string_capacity.summarize(rows)
    hole = only(summary, model_width=8, quantity=string_capacity.HOLDS, data_examples=800)
    assert np.isnan(hole["estimate"]) and hole["missing"] == len(SEEDS)


@pytest.mark.parametrize("rows", [strings(), strings()[:1], strings().assign(status="missing"), strings()[:0]])
def test_figures_are_drawn_of_whole_and_of_missing_sweeps(rows):
    summary = string_capacity.summarize(rows)
    for figure in string_capacity.FIGURES:
        with figures.canvas() as ax:
            figure.draw(summary, ax)
            assert ax.get_xlabel() or ax.texts, figure.name


def test_the_figure_of_sets_has_a_curve_a_width_and_published_bits():
    plot = drawn(string_capacity.draw, string_capacity.summarize(strings()), quantity=string_capacity.HOLDS)
    names = {trace["name"] for trace in plot["data"]}
    assert (
        plot["layout"]["legend"]["title"]["text"] == "width"
        and {"8", "16", "all of the set", "3.6: Morris et al."} <= names
    )
