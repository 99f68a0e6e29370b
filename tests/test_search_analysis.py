"""What figures say of searches: on rows made by hand, whose answers are known."""

import json

import numpy as np
import pytest

from memsweep.analysis.core.catalog import questions
from memsweep.analysis.questions import best, boundary, capacity_search
from tests.test_analysis import drawn, only, trials

PLANE = json.dumps(
    {"x": "data.noise_fraction", "y": "regularization.weight_decay", "objective": "memorized_share", "level": 0.5}
)


def plane(size=9, seeds=3):
    """The share falls along x plus y, from 1 to 0: it is one half on the diagonal."""
    axis = np.linspace(0.1, 0.9, size)
    rows = [
        {
            **{"data_noise_fraction": x, "regularization_weight_decay": y, "seed": seed},
            **{"memorized_count": round(1000 * (1 - (x + y) / 2)) + seed - 1, "label_changed_count": 1000},
        }
        for x in axis
        for y in axis
        for seed in range(seeds)
    ]
    return trials(*rows).assign(search="boundary", search_fields=PLANE, round=1)


def test_the_level_line_lies_where_the_mean_crosses():
    summary = boundary.summarize(plane())
    assert only(summary, x=0.1, y=0.1)["side"] == 1 and only(summary, x=0.9, y=0.9)["side"] == -1
    (line,) = boundary.level_line(summary, "estimate", 0.5)
    assert np.allclose(line[0] + line[1], 1.0) and line[0].min() == pytest.approx(0.1)
    names = [trace["name"] for trace in drawn(boundary.draw, summary)["data"]]
    assert {"above", "below", "memorized share = 0.5"} <= set(names)


def test_a_plane_on_one_side_has_no_line():
    summary = boundary.summarize(plane()[lambda rows: rows["data_noise_fraction"] < 0.35])
    above = summary[summary["y"] < 0.35]
    assert boundary.level_line(above, "estimate", 0.5) == []
    assert "above" in [trace["name"] for trace in drawn(boundary.draw, above)["data"]]


def test_a_logarithmic_axis_counts_in_steps():
    rows = plane()
    steps = {value: 10.0 ** (i - 6) for i, value in enumerate(np.unique(rows["regularization_weight_decay"]))}
    summary = boundary.summarize(
        rows.assign(regularization_weight_decay=rows["regularization_weight_decay"].map(steps))
    )
    (line,) = boundary.level_line(summary, "estimate", 0.5)
    assert np.allclose(10 * (line[0] - 0.1), 8 - (np.log10(line[1]) + 6))  # a step of one for a step of the other


def searched(width, capacities, sizes=(10, 20, 40, 80)):
    """Each seed was asked all sizes, in rounds, and fits those up to its own."""
    return [
        {
            **{"model_width": width, "data_examples": size, "seed": seed, "optimizer_learning_rate": rate},
            **{"fitted_step": 5 if size <= own and rate == 0.1 else None, "train_correct_count": size // 2},
            **{"train_count": size, "parameter_count": width, "class_count": 2},
        }
        for seed, own in enumerate(capacities)
        for size in sizes
        for rate in (0.1, 1.0)
    ]


def test_capacity_is_the_median_over_seeds_of_the_largest_set_by_any_rate():
    rows = trials(*searched(4, (10, 20, 20, 40, 40)), *searched(8, (40, 80, 80, 80, 80)))
    summary = capacity_search.summarize(rows.assign(round=1, search="capacity", search_fields="{}"))
    small, large = (only(summary, quantity="labels fitted", model_width=width) for width in (4, 8))
    assert (small["estimate"], small["low"], small["high"], small["at_least"]) == (20, 10, 40, 0)
    assert large["estimate"] == 80 and large["at_least"] == 4
    asked = only(summary, quantity="sizes requested", model_width=4)
    assert (asked["low"], asked["high"]) == (10, 80)
    for figure in capacity_search.FIGURES:
        assert drawn(figure.draw, summary)["data"]


def proposals(goals, *rows):
    full = [
        {"setting_id": f"s{i}", "seed": seed, "model_width": 8 + i, "validation_count": 100, **row}
        for i, row in enumerate(rows)
        for seed in range(2)
    ]
    return trials(*full).assign(search="best", search_fields=json.dumps({"objectives": goals}), round=1)


def test_the_best_so_far_is_of_those_with_their_whole_budget():
    rows = ({"validation_correct_count": 50}, {"validation_correct_count": 90, "status": "pruned"})
    rows += ({"validation_correct_count": 40}, {"validation_correct_count": 60})
    summary = best.summarize(proposals({"validation_accuracy": "maximize"}, *rows))
    assert list(summary["best"]) == [True, False, False, True]
    assert list(summary["validation_accuracy"]) == [0.5, 0.9, 0.4, 0.6] and list(summary["seeds"]) == [2] * 4
    assert {"given up early", "best so far"} <= {trace["name"] for trace in drawn(best.draw, summary)["data"]}


def test_a_front_holds_what_nothing_beats_in_both():
    rows = [{"validation_correct_count": a, "wall_seconds": b} for a, b in ((50, 1.0), (60, 2.0), (55, 3.0), (60, 1.5))]
    summary = best.summarize(proposals({"validation_accuracy": "maximize", "wall_seconds": "minimize"}, *rows))
    assert list(summary["best"]) == [True, False, False, True]
    assert "Pareto front" in [trace["name"] for trace in drawn(best.draw, summary)["data"]]


def test_a_sweep_is_drawn_by_its_search_where_it_has_no_module_of_its_own():
    assert questions("mine", "boundary") == {"mine-": boundary}
    assert questions("mine", "best") == {"mine-": best}
    assert questions("capacity_search", "capacity") == {"capacity_search-": capacity_search}
